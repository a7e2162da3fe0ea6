"""The command line: parse, call, print. Errors become one sentence on stderr and exit code 2."""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from cahp import processes as parallel
from cahp.values import CahpError, Cancelled

if TYPE_CHECKING:
    from cahp.run.settings import Settings
    from cahp.store import Store

# Typer evaluates annotations at run time, and not every version understands `X | None` inside Annotated.
app = typer.Typer(
    name="cahp",
    help="See which attention heads of a transformer complement each other, and keep only those.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Model = Annotated[str, typer.Option("--model", "-m", help="A built-in (see `cahp models`), a hub id, or a folder.")]
Data = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--data", "-d", help="A built-in (see `cahp data`), a file, a folder, or hub:org/name."),
]
TextColumn = Annotated[Optional[str], typer.Option(help="The column of the texts.")]  # noqa: UP045
PairColumn = Annotated[Optional[str], typer.Option(help="The column of the second text of each pair.")]  # noqa: UP045
LabelColumn = Annotated[Optional[str], typer.Option(help="The column of the labels.")]  # noqa: UP045
LabelMap = Annotated[str, typer.Option(help='Data label to model label: "neg=NEGATIVE,pos=POSITIVE".')]
Limit = Annotated[int, typer.Option(min=2, help="Texts to choose heads on.")]
Sample = Annotated[str, typer.Option(help="stratified: like the whole in classes; head: the first rows.")]
EvalSplit = Annotated[str, typer.Option(help="The split that judges.")]
EvalLimit = Annotated[int, typer.Option(min=1, help="Texts to judge on.")]
Seed = Annotated[int, typer.Option(help="Seeds sampling, projection, clustering and training.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Mask = Annotated[Path, typer.Option(help="A head mask: head_mask.json, .npy or .pt, or heads_to_prune JSON.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Measure anew what an earlier run has measured.")]
Batch = Annotated[int, typer.Option(min=1, max=1024, help="Texts a batch.")]
Length = Annotated[int, typer.Option(min=2, max=128, help="Tokens a text.")]
Repeats = Annotated[int, typer.Option(min=5, max=10_000, help="Measured rounds.")]


@app.command()
def prune(
    context: typer.Context,
    model: Model = "minilm-bbc",
    data: Data = None,
    limit: Limit = 2000,
    sample: Sample = "stratified",
    select_split: Annotated[str, typer.Option(help="The split that chooses.")] = "train",
    eval_split: EvalSplit = "validation",
    eval_limit: EvalLimit = 1000,
    budget: Annotated[str, typer.Option(help="Heads to keep: auto, a number, or per cent (15%).")] = "auto",
    min_per_layer: Annotated[int, typer.Option(help="Heads that every layer keeps at least.")] = 1,
    pool_size: Annotated[int, typer.Option(help="Side to which attention maps are pooled.")] = 32,
    poly_degree: Annotated[int, typer.Option(help="Degree of the knee's polynomial: 2 keeps many, 6 few.")] = 6,
    projection: Annotated[str, typer.Option(help="tsne, umap, pca or none.")] = "tsne",
    salience: Annotated[str, typer.Option(help="batch (the paper's) or example.")] = "batch",
    representative: Annotated[str, typer.Option(help="salience (the paper's) or medoid.")] = "salience",
    recover: Annotated[str, typer.Option(help="none, refit (seconds) or finetune (minutes to hours).")] = "none",
    report: Annotated[Optional[str], typer.Option(help="test: open the test split, and report on it too.")] = None,  # noqa: UP045
    seed: Seed = 42,
    device: Device = "auto",
    text_column: TextColumn = None,
    pair_column: PairColumn = None,
    label_column: LabelColumn = None,
    label_map: LabelMap = "",
    out: Annotated[Optional[Path], typer.Option(help="Folder for run.json, head_mask.json and arrays.npz.")] = None,  # noqa: UP045
    as_json: AsJson = False,
    quiet: Quiet = False,
    no_cache: NoCache = False,
) -> None:
    """Choose the heads that complement each other, and measure what keeping only them costs and saves."""
    from cahp.cli.printing import summary
    from cahp.cli.progress import bars
    from cahp.data import parse_label_map
    from cahp.export import masks as export
    from cahp.run.prune import prune
    from cahp.run.settings import Settings

    settings = Settings(
        model=model,
        data=data,
        limit=limit,
        sample=sample,  # type: ignore[arg-type]
        select_split=select_split,
        eval_split=eval_split,
        eval_limit=eval_limit,
        budget=budget,
        min_per_layer=min_per_layer,
        pool_size=pool_size,
        poly_degree=poly_degree,
        projection=projection,  # type: ignore[arg-type]
        salience=salience,  # type: ignore[arg-type]
        representative=representative,  # type: ignore[arg-type]
        recover=recover,  # type: ignore[arg-type]
        report=report,
        seed=seed,
        device=device,
        text_column=text_column,
        pair_column=pair_column,
        label_column=label_column,
        label_map=parse_label_map(label_map) if label_map else {},
    )
    with _folder(out) if out is not None else nullcontext():
        with bars(quiet=quiet or as_json) as progress:
            run = prune(
                settings, store=_store(no_cache), command=_command(context), progress=progress, watch=progress.watch
            )
        if out is not None and parallel.first():
            export.write_run(
                out,
                run=run.document,
                mask=run.mask,
                arrays=run.arrays,
                model_id=run.document["model"]["id"],
                method=settings.method,
                metrics=run.document["metrics"],
            )
    wrote = "nothing was written; --out DIR keeps run.json, head_mask.json and arrays.npz"
    if out is not None:
        wrote = f"wrote     {out}/run.json, head_mask.json, arrays.npz"
    _print(run.document, [*summary(run.document), f"  {wrote}"], as_json)


@app.command()
def evaluate(
    model: Model = "minilm-bbc",
    data: Data = None,
    mask: Annotated[Optional[Path], typer.Option(help="A head mask; without one: the full model.")] = None,  # noqa: UP045
    split: EvalSplit = "validation",
    limit: EvalLimit = 1000,
    sample: Sample = "stratified",
    seed: Seed = 42,
    device: Device = "auto",
    text_column: TextColumn = None,
    pair_column: PairColumn = None,
    label_column: LabelColumn = None,
    label_map: LabelMap = "",
    as_json: AsJson = False,
    quiet: Quiet = False,
    no_cache: NoCache = False,
) -> None:
    """Measure a model's answers, with all heads and under a mask."""
    from cahp.cli.printing import quality
    from cahp.cli.progress import bars
    from cahp.tasks import evaluate as task

    settings = _settings(model, data, device, seed, sample, text_column, pair_column, label_column, label_map)
    settings = replace(settings, eval_split=split, eval_limit=limit)
    with bars(quiet=quiet or as_json) as progress:
        found = task.evaluate(settings, mask=mask, store=_store(no_cache), progress=progress)
    _print(found, quality(found), as_json)


@app.command()
def latency(
    mask: Mask,
    model: Model = "minilm-bbc",
    batch: Batch = 8,
    length: Length = 64,
    repeats: Repeats = 30,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
    no_cache: NoCache = False,
) -> None:
    """Time the model with its heads cut out against the full one, in turn."""
    from cahp.cli.printing import cost
    from cahp.cli.progress import bars
    from cahp.tasks import evaluate as task

    with bars(quiet=quiet or as_json) as progress:
        found = task.latency(
            model,
            mask,
            batch=batch,
            length=length,
            repeats=repeats,
            device=device,
            store=_store(no_cache),
            progress=progress,
        )
    _print(found, cost(found), as_json)


@app.command()
def recover(
    mask: Mask,
    out: Annotated[Path, typer.Option(help="Folder for the recovered model.")],
    model: Model = "minilm-bbc",
    data: Data = None,
    how: Annotated[str, typer.Option("--recover", help="refit (seconds) or finetune (minutes to hours).")] = "refit",
    limit: Limit = 2000,
    eval_limit: EvalLimit = 1000,
    epochs: Annotated[int, typer.Option(min=1, max=100, help="Epochs of fine-tuning.")] = 3,
    learning_rate: Annotated[float, typer.Option(min=1e-7, max=1.0, help="Highest rate of fine-tuning.")] = 2e-5,
    batch: Batch = 32,
    sample: Sample = "stratified",
    seed: Seed = 42,
    device: Device = "auto",
    text_column: TextColumn = None,
    pair_column: PairColumn = None,
    label_column: LabelColumn = None,
    label_map: LabelMap = "",
    as_json: AsJson = False,
    quiet: Quiet = False,
    no_cache: NoCache = False,
) -> None:
    """Repair a model under a mask and save it: a plain checkpoint of the usual shapes that loads anywhere."""
    from cahp.cli.printing import quality
    from cahp.cli.progress import bars
    from cahp.tasks import recover as task

    settings = _settings(model, data, device, seed, sample, text_column, pair_column, label_column, label_map)
    settings = replace(settings, limit=limit, eval_limit=eval_limit)
    with _folder(out), bars(quiet=quiet or as_json) as progress:
        found = task.recover(
            settings,
            mask=mask,
            how=how,
            out=out,
            epochs=epochs,
            learning_rate=learning_rate,
            batch=batch,
            store=_store(no_cache),
            progress=progress,
            watch=progress.watch,
        )
    wrote = f"  wrote     {out}: load it with AutoModelForSequenceClassification.from_pretrained"
    _print(found, [*quality(found), wrote], as_json)


@app.command()
def export(
    context: typer.Context,
    mask: Mask,
    out: Annotated[Path, typer.Option(help="Folder for the model, or for the mask's file.")],
    model: Model = "minilm-bbc",
    data: Data = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="compact (smaller, loads with one file), drop-in (the usual shapes), onnx; or the mask alone: "
            "mask, npy, pt, csv, heads-to-prune.",
        ),
    ] = "compact",
    how: Annotated[
        str, typer.Option("--recover", help="none, refit (seconds) or finetune (minutes to hours).")
    ] = "none",
    limit: Limit = 2000,
    eval_limit: EvalLimit = 1000,
    sample: Sample = "stratified",
    seed: Seed = 42,
    device: Device = "auto",
    text_column: TextColumn = None,
    pair_column: PairColumn = None,
    label_column: LabelColumn = None,
    label_map: LabelMap = "",
    latency: Annotated[bool, typer.Option(help="Time the ONNX file beside the full model's.")] = True,
    as_json: AsJson = False,
    quiet: Quiet = False,
    no_cache: NoCache = False,
) -> None:
    """Take a pruned model home: written, read back in a fresh process, compared; or convert a mask to another file."""
    from cahp.cli.printing import exported
    from cahp.cli.progress import bars
    from cahp.export import take_home as task

    settings = _settings(model, data, device, seed, sample, text_column, pair_column, label_column, label_map)
    settings = replace(settings, limit=limit, eval_limit=eval_limit, recover=how)  # type: ignore[arg-type]
    with _folder(out), bars(quiet=quiet or as_json) as progress:
        found = task.export(
            settings,
            mask=mask,
            form=form,
            out=out,
            how=settings.recover,
            time=latency,
            command=_command(context),
            store=_store(no_cache),
            progress=progress,
        )
    _print(found, exported(found, str(out)), as_json)


@app.command()
def fit(
    data: Annotated[str, typer.Option("--data", "-d", help="Labelled texts to learn from.")],
    out: Annotated[Path, typer.Option(help="Folder for the classifier.")],
    model: Model = "minilm",
    epochs: Annotated[int, typer.Option(min=1, max=1000, help="Passes over the training texts.")] = 4,
    learning_rate: Annotated[float, typer.Option(min=1e-7, max=1.0, help="Highest learning rate.")] = 5e-4,
    batch: Batch = 32,
    rank: Annotated[int, typer.Option(min=1, max=256, help="Rank of the low-rank adapters (LoRA).")] = 16,
    save: Annotated[str, typer.Option(help="model: a whole checkpoint; adapter: the adapter alone.")] = "model",
    limit: Annotated[Optional[int], typer.Option(min=2, help="Training texts at most.")] = None,  # noqa: UP045
    seed: Seed = 42,
    device: Device = "auto",
    text_column: TextColumn = None,
    pair_column: PairColumn = None,
    label_column: LabelColumn = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a classifier on an encoder with low-rank adapters; the best epoch on validation is kept."""
    from cahp.cli.printing import fitted
    from cahp.cli.progress import bars
    from cahp.tasks import fit as task

    settings = _settings(model, data, device, seed, "stratified", text_column, pair_column, label_column, "")
    with _folder(out), bars(quiet=quiet or as_json) as progress:
        found = task.fit(
            settings,
            out=out,
            save=save,
            schedule={"epochs": epochs, "learning_rate": learning_rate, "batch": batch},
            rank=rank,
            limit=limit,
            progress=progress,
        )
    use = f": choose its heads with cahp prune --model {out} --data {data}" if save == "model" else ""
    _print(found, [*fitted(found), f"  wrote     {out}{use}"], as_json)


@app.command()
def models(
    name: Annotated[Optional[str], typer.Argument(help="A model to look at before it is used.")] = None,  # noqa: UP045
    as_json: AsJson = False,
) -> None:
    """List the built-in models, or say of one whether it is supported, its heads, memory and expected time."""
    from cahp.tasks import inspect as preflight

    if name is None:
        found: Any = preflight.builtins()
        lines = [
            f"{one['name']:<14}{one['description']}{'' if one['available'] else '  (not installed)'}" for one in found
        ]
    else:
        found = preflight.look(name)
        lines = list(preflight.words(found))
    _print(found, lines, as_json)


@app.command()
def data(
    name: Annotated[Optional[str], typer.Argument(help="Data to look at before it is used.")] = None,  # noqa: UP045
    text_column: TextColumn = None,
    pair_column: PairColumn = None,
    label_column: LabelColumn = None,
    as_json: AsJson = False,
) -> None:
    """List the data sets known by name, or say what is in one."""
    from dataclasses import asdict

    from cahp import data as sources
    from cahp.cli.printing import contents

    if name is None:
        entries = sources.catalogue()
        missing = {"built-in": "  (not installed)", "preset": "  (read from the hub)"}
        _print(
            [asdict(one) for one in entries],
            [f"{one.name:<14}{one.description}{'' if one.available else missing[one.kind]}" for one in entries],
            as_json,
        )
        return
    dataset = sources.load(name, text_column=text_column, pair_column=pair_column, label_column=label_column)
    splits = {
        split: {
            "examples": len(texts),
            "class_counts": dict(zip(texts.classes, texts.class_counts.tolist(), strict=True)),
        }
        for split, texts in dataset.splits.items()
    }
    found = {"id": dataset.id, "pairs": dataset.pairs, "splits": splits, "notices": list(dataset.notices)}
    _print(found, contents(found), as_json)


@app.command()
def compare(
    context: typer.Context,
    model: Model = "minilm-bbc",
    data: Data = None,
    methods: Annotated[Optional[str], typer.Option(help="Names with commas; without, the preset's.")] = None,  # noqa: UP045
    budgets: Annotated[Optional[str], typer.Option(help="Heads to keep, with commas: 6,12,20 or 10%,20%.")] = None,  # noqa: UP045
    seeds: Annotated[Optional[str], typer.Option(help="How many (5), or which (42,43).")] = None,  # noqa: UP045
    recover: Annotated[Optional[str], typer.Option(help="none, refit, finetune, with commas.")] = None,  # noqa: UP045
    preset: Annotated[Optional[str], typer.Option(help="quick (the default), posthoc or full.")] = None,  # noqa: UP045
    limit: Annotated[Optional[int], typer.Option(min=2, help="Texts to choose heads on.")] = None,  # noqa: UP045
    eval_limit: Annotated[Optional[int], typer.Option(min=1, help="Texts to judge on.")] = None,  # noqa: UP045
    eval_split: EvalSplit = "validation",
    sample: Sample = "stratified",
    min_per_layer: Annotated[int, typer.Option(help="Heads that every layer keeps at least.")] = 1,
    tries: Annotated[int, typer.Option(min=1, help="Settings that validation chooses among; 1: the defaults.")] = 1,
    report: Annotated[Optional[str], typer.Option(help="test: open the test split, and report on it too.")] = None,  # noqa: UP045
    jobs: Annotated[int, typer.Option(min=1, max=1024, help="Processes of this machine.")] = 1,
    cluster: Annotated[Optional[str], typer.Option(help="dask, or dask:ADDRESS of a scheduler.")] = None,  # noqa: UP045
    device: Device = "auto",
    text_column: TextColumn = None,
    pair_column: PairColumn = None,
    label_column: LabelColumn = None,
    label_map: LabelMap = "",
    out: Annotated[Optional[Path], typer.Option(help="Folder for compare.json, a table and figures.")] = None,  # noqa: UP045
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare methods of choosing heads under one protocol; an interrupted comparison goes on where it stopped."""
    from cahp import compare as comparing
    from cahp.cli.compare import plan, reporting, summary

    settings = _settings(model, data, device, 42, sample, text_column, pair_column, label_column, label_map)
    settings = replace(settings, eval_split=eval_split, min_per_layer=min_per_layer, report=report)
    asked = plan(
        settings,
        preset=preset,
        methods=methods,
        budgets=budgets,
        seeds=seeds,
        recover=recover,
        limit=limit,
        eval_limit=eval_limit,
        tries=tries,
    )
    names: list[str] = []
    with _folder(out) if out is not None else nullcontext():
        with reporting(quiet=quiet) as (progress, announce):
            found = comparing.compare(
                asked,
                store=_store(False),
                jobs=jobs,
                cluster=cluster,
                command=_command(context),
                progress=progress,
                announce=announce,
            )
        if out is not None:
            names = found.write(out)
    _print(found.as_json(), summary(found, out, names), as_json)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check this installation with a run of a second, and say what to do about what fails."""
    from cahp.cli.doctor import examine

    checks = examine()
    _print([check.as_json() for check in checks], [line for check in checks for line in check.lines], as_json)
    if not all(check.passed for check in checks):
        raise typer.Exit(2)


@app.command()
def bench(
    model: Model = "minilm-bbc",
    data: Data = None,
    limit: Annotated[int, typer.Option(min=32, help="Texts to measure on.")] = 640,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Rounds; every round runs each contestant once.")] = 3,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure this package's own speed side by side with a plain forward pass and a naive baseline."""
    from cahp.cli.progress import bars
    from cahp.studies import benchmark

    settings = _settings(model, data, device, 42, "stratified", None, None, None, "")
    with bars(quiet=quiet or as_json) as progress:
        found = benchmark.measure(settings, limit=limit, rounds=rounds, progress=progress)
    _print(found, benchmark.words(found), as_json)


@app.command()
def explore(
    port: Annotated[int, typer.Option(min=1024, max=65535, help="Port on this machine.")] = 8501,
    browser: Annotated[bool, typer.Option(help="Open a browser window.")] = True,
) -> None:
    """Open the explorer in a browser; it listens on this machine only."""
    from cahp.cli.explore import start

    raise typer.Exit(start(port=port, browser=browser))


def _settings(
    model: str,
    data: str | None,
    device: str,
    seed: int,
    sample: str,
    text_column: str | None,
    pair_column: str | None,
    label_column: str | None,
    label_map: str,
) -> Settings:
    from cahp.data import parse_label_map
    from cahp.run.settings import Settings

    return Settings(
        model=model,
        data=data,
        device=device,
        seed=seed,
        sample=sample,  # type: ignore[arg-type]
        text_column=text_column,
        pair_column=pair_column,
        label_column=label_column,
        label_map=parse_label_map(label_map) if label_map else {},
    )


def _store(no_cache: bool) -> Store:
    from cahp.store import Store

    return Store(fresh=no_cache)


def _print(found: object, lines: Iterable[str], as_json: bool) -> None:
    from cahp.files import json_text

    if parallel.first():
        typer.echo(json_text(found).rstrip() if as_json else "\n".join(lines))


_INTERRUPTED = 130
#: Commands that several processes can work on together.
_SHARED = ("prune", "evaluate", "recover", "fit")


@contextmanager
def _folder(out: Path) -> Iterator[None]:
    """``out``, made if need be and proven writable before long work; removed again if the work made nothing."""
    from cahp.export.masks import check_folder

    new = False
    with suppress(OSError):  # a name that no path can have: the check says so
        new = not out.exists()
    parallel.from_first(lambda: check_folder(out))
    try:
        yield
    except BaseException:
        if new:
            with suppress(OSError):
                out.rmdir()
        raise


def _command(context: typer.Context) -> str:
    return shlex.join(["cahp", *context.find_root().obj])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code: 0 done, 2 unusable input, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal or pipe that cannot show a sign gets its code, not a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    code = run(sys.argv[1:] if arguments is None else arguments)
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.flush()
    except BrokenPipeError:
        _hang_up()
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command; what the person can mend is one sentence on stderr."""
    command = typer.main.get_command(app)
    words = list(arguments) or ["--help"]
    if parallel.world() > 1 and words[0] not in _SHARED:
        return _refuse(f"cahp {words[0]} works in one process; of several, start {', '.join(_SHARED)} only")
    try:
        code = command.main(words, prog_name="cahp", standalone_mode=False, obj=words)
    except CahpError as error:
        return _refuse(str(error))
    except (KeyboardInterrupt, Cancelled, typer.Abort):
        code = _INTERRUPTED
    except SystemExit:
        # What the option parser makes of a broken pipe; every other end it returns.
        _hang_up()
        return 0
    except Exception as error:
        # Usage errors of the option parser, whichever library Typer brings it from.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        context = getattr(error, "ctx", None)
        path = "cahp" if context is None else context.command_path
        return _refuse(f"{message().rstrip('.')}; see `{path} --help`")
    if code == _INTERRUPTED and parallel.first():
        # Some versions of the option parser return it, some raise.
        typer.echo("cahp: interrupted; nothing half-written was left", err=True)
    return code if isinstance(code, int) else 0


def _hang_up() -> None:
    # The reader of a pipe (`| head`) has gone: not our failure, and nobody is left to tell. What is still buffered
    # goes nowhere, or the interpreter would complain when it flushes on its way out.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse(sentence: str) -> int:
    if parallel.first():
        typer.echo(f"cahp: {' '.join(sentence.split())}", err=True)
    return 2
