"""``cahp.prune``: choose the heads of a model and measure the result, a run with figures, a report and files."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Unpack, get_args

from cahp import models
from cahp.api import figures
from cahp.api.options import (
    AnyData,
    AnyModel,
    Name,
    ShowProgress,
    find_run,
    is_loaded,
    read_call,
    read_settings,
    show_progress,
)
from cahp.board.budget_sweep import BudgetTable, fill, table_json, table_of
from cahp.board.colourings import colour_by_measures
from cahp.board.head_clusters import HeadClusters
from cahp.exports.report import recipe, run_report, write_report
from cahp.exports.run_folder import RunFiles, write_run
from cahp.features import measures
from cahp.figures.head_grid import places
from cahp.files import scratch
from cahp.output import Output
from cahp.run.bench import Bench, open_bench
from cahp.run.document import StateOutcomes
from cahp.run.evidence import stored_roles
from cahp.run.keywords import Options
from cahp.run.prune import Run, measure_run, method_of
from cahp.run.settings import Settings, describe
from cahp.store import Store
from cahp.terminal.printing import run_lines
from cahp.values import CahpError, Fields, Input, JsonObject, OptionError, Progress, check_known, silent

if TYPE_CHECKING:
    from pandas import DataFrame

    from cahp.api.similarity import SimilarityResult
    from cahp.models.head_model import HeadModel
    from cahp.notebook.widget import BudgetBoard


@dataclass(frozen=True, eq=False, repr=False)
class PruneResult(Run):
    """A finished run, as ``cahp.prune`` returns it.

    It shows itself as the last line of a notebook's cell and as text in a terminal.

    Attributes:
        document: The contents of ``run.json`` (``cahp.run/1``), typed.
        mask: The kept heads; ``mask.keep`` is ``(layers, heads)`` bool, ``mask.by_layer`` lists them.
        arrays: The basis of the choice, with ``N = layers * heads``: ``embedding (N, 2)``, ``salience (N,)`` in
            0..1, ``labels (N,)`` the cluster of each head, ``ks (K,)`` and ``mss (K,)`` the curve of the silhouette
            (``mss_null (draws, K)`` of unstructured data, if the knee chose the budget),
            ``mean`` and ``var (N, C, D)`` the signatures.
        bench: The model and its data, for further measurements.
        table: The figures at all budgets (None: not measured; see ``sweep``).
    """

    bench: Bench = field(kw_only=True)
    table: BudgetTable | None = field(default=None, kw_only=True)

    @property
    def settings(self) -> Settings:
        """The settings of the run."""
        return self.document.settings

    @property
    def outcomes(self) -> StateOutcomes:
        """Outcomes of the ``full``, the ``pruned`` and, after a recovery, the ``recovered`` model.

        Each is a mapping from the outcome's name (see ``cahp.outcomes.OUTCOMES``) to its estimate:
        ``run.outcomes["pruned"]["accuracy"].value``.
        """
        return self.document.outcomes

    @property
    def heads(self) -> DataFrame:
        """A table with a row for each head, or group of heads that share keys and values.

        Columns are ``layer``, ``head``, ``kept``, ``cluster``, ``salience`` (0..1), its place ``x`` and ``y`` on
        the map of heads, and ``role`` if roles were measured.
        """
        from pandas import DataFrame

        x, y = self.arrays["embedding"].T
        table = DataFrame(places(self.mask.layers, self.mask.heads))
        table = table.assign(kept=self.mask.keep.ravel(), cluster=self.arrays["labels"])
        table = table.assign(salience=self.arrays["salience"], x=x, y=y)
        roles = stored_roles(self.bench.resources)
        if roles is not None:
            table = table.assign(**roles.columns)
        return table

    @cached_property
    def board(self) -> BudgetBoard:
        """The budget board in a notebook: drag it, or set ``board.budget`` or ``board.mask``; the kernel measures.

        Raises:
            OptionError: If the extra ``notebook`` is not installed, or the run's method is not the board's.
        """
        try:
            from cahp.notebook.widget import BudgetBoard
        except ModuleNotFoundError:
            raise OptionError(
                'the board needs more packages; install them with pip install "cahp-explorer[notebook]"'
            ) from None
        if self.settings.method != Settings.method:
            raise OptionError(
                f"the board shows the budgets of {Settings.method} only, and this run chose heads by "
                f"{self.settings.method}; draw it with plot()"
            )
        clusters = HeadClusters.of_arrays(self.arrays, self.document)
        coloured = colour_by_measures(measures(), self.document)
        table = self.table or table_of(self.document, clusters)
        return BudgetBoard(self.document, self.bench, clusters, table, coloured)

    # Files ---------------------------------------------------------------------------------------------------

    def save(self, folder: Name) -> Path:
        """Write ``run.json``, ``head_mask.json`` and ``arrays.npz`` into ``folder``, as ``cahp prune --out`` does.

        Returns the folder of the files: another one beside ``folder`` if others wrote to it at the same time.

        Raises:
            CahpError: If the folder cannot be written to, or contains files of these names that no run wrote.
        """
        output = Output(Path(folder))
        write_run(output, self, table=self.table)
        return output.folder

    def report(self, path: Name, *, static: bool = False) -> Path:
        """Write the run as one HTML file that opens offline.

        Its board shows the figures of the measured budgets while it is dragged; ``static`` leaves out the script.

        Raises:
            CahpError: If the file cannot be written.
        """
        table = self.table
        if "board" in vars(self):
            # The figures that were measured on the board are part of the report.
            table = self.board.table
        measured = None
        if table is not None:
            measured = table_json(table, self.document)
        files = RunFiles(self.document, self.arrays, measured)
        text = run_report(files, day=date.today(), static=static, measures=measures())
        return write_report(text, Path(path))

    def model(self, *, progress: ShowProgress = None) -> Any:
        """The pruned, recovered network of the run, a ``torch.nn.Module`` of transformers with all weights trainable.

        It is the exported form ``compact``, loaded again: without the pruned heads, in eval mode.

        Raises:
            CahpError: If the model cannot be cut to the run's mask.
        """
        from cahp.api.export import export
        from cahp.models.compact import load_pruned

        settings = replace(self.settings, latency=False, abilities=None, measure=())
        with scratch() as folder:
            export(settings, mask=self.mask, out=folder / "model", progress=progress, store=self.bench.resources.store)
            return load_pruned(folder / "model")

    # Figures -------------------------------------------------------------------------------------------------

    def plot(
        self,
        name: figures.RunFigure = "heads",
        *,
        budgets: Sequence[int] | None = None,
        text: Input | None = None,
        dark: bool = False,
        progress: ShowProgress = None,
    ) -> Any:
        """A figure of the explorer's pages, as a ``plotly.graph_objects.Figure``.

        Args:
            name: ``heads`` (kept heads by cluster), ``space`` (heads in the plane of the projection), ``silhouette``
                (the curve that suggests the number), ``accuracy``, ``kl``, ``agreement`` and ``latency`` (by budget,
                with 95 % intervals), or ``similarity`` (heads that attend alike on a ``text``).
            budgets: Numbers of heads for a figure by budget (None: a few from the fewest to all). Results that were
                measured before come from the cache.
            text: The text for ``similarity``.
            dark: Draw for a dark page.
            progress: See ``cahp.prune``.

        Raises:
            OptionError: If there is no such figure, or plotly is not installed.
        """
        check_known("figure", name, get_args(figures.RunFigure))
        figures.check_plotly()
        if name == "similarity":
            if text is None:
                raise OptionError('similarity depends on a text; give one: plot("similarity", text="...")')
            return self.similarity(text, progress=progress).graph().plot(dark=dark)
        if name in figures.OF_RUN:
            figure, title = figures.OF_RUN[name](self, dark=dark)
            return figures.add_title(figure, title, dark=dark)
        with self._progress_of_bench(progress) as reporter:
            return figures.by_budget(self, self.bench, name, budgets=budgets, progress=reporter, dark=dark)

    def similarity(self, text: Input, *, progress: ShowProgress = None) -> SimilarityResult:
        """The heads of the full model that attend alike on a text, with the run's mask; see ``cahp.similarity``."""
        from cahp.api.similarity import similarity

        with self._progress_of_bench(progress):
            model = self.bench.model
        return similarity(model, text, mask=self.mask, progress=progress)

    @contextmanager
    def _progress_of_bench(self, progress: ShowProgress) -> Iterator[Progress]:
        """Show the progress of the bench during the block."""
        with show_progress(progress) as reporter:
            self.bench.resources.listener = reporter
            try:
                yield reporter
            finally:
                self.bench.resources.listener = silent

    def __repr__(self) -> str:
        return "\n".join(run_lines(self.document, measures()))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> JsonObject:
        # The still picture stays in the notebook's file for readers without a kernel.
        still = {"text/plain": repr(self), "text/html": self._repr_html_()}
        try:
            live = self.board._repr_mimebundle_()
        except CahpError:
            return still
        if not live:
            return still
        return {**live[0], **still}

    def _repr_html_(self) -> str:
        return figures.run_html(self)


def prune(
    model: AnyModel | HeadModel | Any = Settings.model,
    data: AnyData | None = None,
    *,
    tokenizer: Any = None,
    sweep: bool = False,
    command: str | None = None,
    progress: ShowProgress = None,
    yes: bool = False,
    store: Store | None = None,
    **options: Unpack[Options],
) -> PruneResult:
    """Choose heads to keep on some texts, and measure on others what that costs and saves.

    ``cahp.prune("minilm-bbc", budget=20, recover="refit")`` does the same as ``cahp prune`` with these options. A
    second call finds the results of the first in the cache.

    Args:
        model: A built-in, a hub id, a folder, a GGUF file, a model loaded by ``cahp.load``, one of transformers with
            its ``tokenizer``, a ``Settings`` with all options, or a run, which tells what is not given.
        data: A built-in, a file, a folder, ``hub:org/name``, a table or a list of texts (None: those of the model).
        sweep: Measure all other budgets, too, so that a report shows figures at each of them.
        command: The command line to record in the document (None: the shortest one that repeats the run).
        progress: None shows bars in a notebook and in an interactive terminal, True also in a script, False nowhere; a
            callable is called with ``(stage, done, total)`` instead, and may raise ``cahp.Cancelled``.
        yes: Agree to downloads of more than a gigabyte from the hub.
        store: The cache of results (None: the user's cache).
        **options: The other fields of ``cahp.Settings``, such as ``recover`` and ``seed``; ``budget`` is the number of
            heads to keep: ``"auto"`` (the knee of the curve), a number, or a share such as ``"15%"``. ``method`` is a
            name, or a class of your own (see ``cahp.methods.Method``).

    Returns:
        The run. It shows itself in a notebook; see its ``mask``, ``metrics``, ``plot``, ``report`` and ``save``.

    Raises:
        CahpError: If model, data and options do not fit together; one line with the next step.
    """
    start = perf_counter()
    if tokenizer is not None:
        model = models.load(model, tokenizer=tokenizer, device=options.get("device", "auto"))
    settings, loaded = _read_settings(model, data, options)
    method_of(settings)  # Refuses an unknown method before any data are fetched.
    if sweep and settings.method != Settings.method:
        raise OptionError(
            f"--sweep measures the budgets of {Settings.method} and not of {settings.method}; leave one out"
        )
    with show_progress(progress, yes=yes) as reporter:
        bench = open_bench(settings, store=store, model=loaded, progress=reporter, watch=reporter.watch)
        if command is None:
            command = recipe(settings)
        run = measure_run(bench, command, start, measures=measures())
        table = None
        if sweep:
            table = table_of(run.document, HeadClusters.of(bench.evidence))
            for _ in fill(table, bench, reporter):
                pass
    return PruneResult(run.document, run.mask, run.arrays, bench=bench, table=table)


def _signature() -> inspect.Signature:
    """The signature with all options, for ``help`` and for completion in notebooks."""
    own = inspect.signature(prune)
    *first, _ = own.parameters.values()
    options = [
        inspect.Parameter(setting.name, inspect.Parameter.KEYWORD_ONLY, default=setting.default)
        for setting in describe().values()
        if setting.name not in own.parameters
    ]
    return own.replace(parameters=[*first, *options])


prune.__signature__ = _signature()  # type: ignore[attr-defined]


def _read_settings(
    model: AnyModel | HeadModel | Any, data: AnyData | None, options: Fields
) -> tuple[Settings, HeadModel | None]:
    """The settings of a call, and the model if it is loaded; they name its prompt, type and device."""
    # What is no loaded model either is refused there.
    if not is_loaded(model):
        if find_run(model) is None:
            return read_settings("prune", model, data, options), None
        return read_call("prune", model, data, options)[0], None
    # Imported here because it imports torch.
    from cahp.models.devices import find_device

    card = model.card
    facts: JsonObject = {"dtype": card.dtype, "device": model.device.type}
    facts |= {"prompt": Settings.prompt, "answers": Settings.answers}
    if card.prompt is not None:
        facts |= card.prompt.settings
    for name, fact in facts.items():
        if options.get(name, fact) != fact:
            raise OptionError(f"{card.id} was loaded with {name}={fact!r}; leave {name} out, or give it to cahp.load")
    if find_device("auto").type == model.device.type:
        facts["device"] = options.get("device", Settings.device)
    return read_settings("prune", models.name_of(card), data, {**options, **facts}), model
