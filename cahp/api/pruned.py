"""What ``cahp.prune`` gives: a run that shows itself, is drawn, reported on, and taken home."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from cahp.api import drawing
from cahp.api.following import Followed, following
from cahp.costs import KWH_PRICE, WATTS
from cahp.run.bench import Bench
from cahp.run.document import StateOutcomes
from cahp.run.prune import Run
from cahp.run.settings import Settings
from cahp.values import CahpError, Estimate, Input, OptionError, Progress, silent

if TYPE_CHECKING:
    from cahp.api.similar import SimilarityResult
    from cahp.export.drawings import Clusters
    from cahp.notebook.widget import BudgetBoard

#: The figures of a run.
RunFigure = Literal["heads", "space", "silhouette", "accuracy", "latency", "similarity"]


@dataclass(frozen=True, eq=False, repr=False)
class PruneResult(Run):
    """A finished run, as ``cahp.prune`` gives it.

    It shows itself as the last line of a notebook's cell and as text in a terminal. ``document`` is all that
    ``run.json`` says; the attributes below are what is asked for most.

    Attributes:
        document: The run's document (``cahp.run/1``), typed.
        mask: The heads that stay; ``mask.keep`` is ``(layers, heads)`` bool.
        arrays: What the choice follows from, with ``N = layers * heads``: ``embedding (N, 2)``, ``salience (N,)`` in
            0..1, ``labels (N,)`` the cluster of each head, ``ks (K,)`` and ``mss (K,)`` the silhouette's curve,
            ``mean`` and ``var (N, C, D)`` the signatures.
        bench: The model and its data, to go on measuring with.
    """

    bench: Bench = field(kw_only=True)

    @property
    def settings(self) -> Settings:
        """What was asked."""
        return self.document.settings

    @property
    def budget(self) -> int:
        """How many heads stay."""
        return self.mask.count

    @property
    def kept(self) -> list[list[int]]:
        """The kept heads of each layer, ascending; layers and heads count from 0."""
        return self.mask.by_layer

    @property
    def knee(self) -> int | None:
        """How many clusters the silhouette's curve suggests (None: it has no knee)."""
        return self.document.knee

    @property
    def outcomes(self) -> StateOutcomes:
        """Outcomes of the ``full``, the ``pruned`` and, after a recovery, the ``recovered`` model.

        Each is a mapping from the outcome's name (see ``cahp.outcomes.OUTCOMES``) to its estimate:
        ``run.outcomes["pruned"]["accuracy"].value``.
        """
        return self.document.outcomes

    @property
    def latency_ratio(self) -> Estimate | None:
        """Time of a batch, cut model / full model: below 1 is faster; with its ``ci95`` (None: not measured)."""
        return self.document.latency_ratio

    @cached_property
    def board(self) -> BudgetBoard:
        """The budget board in a notebook: drag it, or set ``board.budget`` and ``board.mask``; the kernel measures.

        Raises:
            OptionError: If the extra ``notebook`` is not installed, or the run's method is not the board's.
        """
        try:
            from cahp.notebook.widget import BudgetBoard
        except ModuleNotFoundError:
            raise OptionError('the board needs more packages: pip install "cahp-explorer[notebook]"') from None
        from cahp.studies.head_clusters import HeadClusters
        from cahp.studies.table_file import table_of

        if self.settings.method != Settings().method:
            raise OptionError(
                f"the board shows what {Settings().method} keeps at every budget, and not {self.settings.method}; "
                "look at the run with plot()"
            )
        there = "labels_of_k" in self.arrays
        clusters = HeadClusters.of_arrays(self.arrays, self.document) if there else HeadClusters.of(self.bench.evidence)
        return BudgetBoard(self.document, self.bench, clusters, table_of(self.document, clusters))

    # Taking it home ------------------------------------------------------------------------------------------

    def save(self, folder: str | PathLike[str]) -> Path:
        """Write ``run.json``, ``head_mask.json`` and ``arrays.npz`` into ``folder``, as ``cahp prune --out`` does.

        Returns where they are: beside ``folder`` if others wrote there at the same time.

        Raises:
            CahpError: If the folder cannot be written to, or holds files of these names that no run wrote.
        """
        from cahp.export.run_folder import write_run
        from cahp.output import Output

        output = Output(Path(folder))
        write_run(output, self)
        return output.folder

    def report(
        self,
        path: str | PathLike[str],
        *,
        static: bool = False,
        watts: float = WATTS,
        price: float = KWH_PRICE,
    ) -> Path:
        """Write the run as one HTML file that opens offline, for people who were not there.

        Its board answers while it is dragged, at the budgets that were measured; ``static`` leaves out the script that
        it needs. ``watts`` (what the machine draws) and the ``price`` of a kilowatt-hour turn time into energy and
        money, where time changes measurably.

        Raises:
            CahpError: If the file cannot be written.
        """
        from cahp.export.real_world import Assumptions
        from cahp.export.run_files import RunFiles
        from cahp.export.run_report import run_report, write_report

        # What was measured on the board is known to the report.
        table = self.board.table if "board" in vars(self) else None
        files = RunFiles.of(self, table=table)
        text = run_report(files, day=date.today(), static=static, assumed=Assumptions(watts, price))
        return write_report(text, Path(path))

    # Looking at it -------------------------------------------------------------------------------------------

    def plot(
        self,
        name: RunFigure = "heads",
        *,
        budgets: Sequence[int] | None = None,
        text: Input | None = None,
        dark: bool = False,
        progress: Followed = None,
    ) -> Any:
        """A figure of the explorer's pages, as a ``plotly.graph_objects.Figure``.

        Args:
            name: ``heads`` (which stay, by cluster), ``space`` (where they lie), ``silhouette`` (why this many),
                ``accuracy`` and ``latency`` (by budget, in per cent and as a ratio, with 95 % intervals), or
                ``similarity`` (which heads attend alike on a ``text``).
            budgets: Where ``accuracy`` or ``latency`` is measured, in heads; without, at a few from the fewest to all.
                What was measured before is found again.
            text: For ``similarity``.
            dark: Draw for a dark page.
            progress: See ``cahp.prune``.

        Raises:
            OptionError: If there is no such figure, or plotly is not installed.
        """
        from cahp.api import run_figures

        drawing.check(name, get_args(RunFigure))
        if name == "similarity":
            if text is None:
                raise OptionError('which heads attend alike depends on the text; give one: plot(name, text="...")')
            return self.similarity(text, progress=progress).plot("graph", dark=dark)
        if name == "accuracy" or name == "latency":
            with self._following(progress) as told:
                return run_figures.by_budget(self, self.bench, name, budgets=budgets, progress=told, dark=dark)
        drawn = {"heads": run_figures.heads, "space": run_figures.space, "silhouette": run_figures.silhouette}
        return drawn[name](self, dark=dark)

    def similarity(self, text: Input, *, progress: Followed = None) -> SimilarityResult:
        """Which heads of the unpruned model attend alike on a text, and which of them stay; see ``cahp.similarity``."""
        from cahp.api.similar import similarity

        with self._following(progress):
            model = self.bench.model
        return similarity(model, text, mask=self.mask, progress=progress)

    @contextmanager
    def _following(self, progress: Followed) -> Iterator[Progress]:
        """Show how far the bench is."""
        with following(progress) as follow:
            self.bench.resources.progress = follow.progress
            try:
                yield follow.progress
            finally:
                self.bench.resources.progress = silent

    @property
    def _clusters(self) -> Clusters:
        from cahp.export.drawings import Clusters

        return Clusters.of(self.arrays["labels"])

    def __repr__(self) -> str:
        from cahp.terminal.printing import summary

        return "\n".join(summary(self.document))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        # The picture stays in the notebook's file, for those who open it without a kernel.
        still = {"text/plain": repr(self), "text/html": self._repr_html_()}
        try:
            live = self.board._repr_mimebundle_()
        except CahpError:
            return still
        return {**(live[0] if live else {}), **still}

    def _repr_html_(self) -> str:
        from cahp.api.showing import run_html

        return run_html(self, self._clusters)
