"""The commands that do the package's work: each calls the use case of its name in ``cahp.api`` and prints the result.

``doctor`` and ``explore`` have files of their own.
"""

import shlex
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cahp
from cahp import data as data_sets
from cahp.cli.command import (
    FORCE,
    OPTIONS,
    PLACE,
    REQUIRED,
    Call,
    Option,
    command,
    folder,
    optional_file,
    optional_folder,
)
from cahp.exports.formats import option_help
from cahp.features import measures
from cahp.features.attribution import TOP
from cahp.models import identify, make_prompt, preview
from cahp.models.cards import ModelCard
from cahp.recoveries import COMPARED
from cahp.run.measures import MaskSubject
from cahp.run.settings import COLUMNS, describe, to_arguments
from cahp.run.show import show_latency
from cahp.show import terminal
from cahp.terminal import printing
from cahp.values import Fields, HeadMask, Input, Names, OptionError

MUST_OUT = OPTIONS["out"].but(default=REQUIRED)
#: A number of texts whose default belongs to the command.
LIMIT = OPTIONS["limit"].but(default=None, fills=False)
_HOW = Option(
    "recover",
    "Recovery: auto (refit, then distillation within --recover-time), refit (seconds: on a third of the calibration "
    "texts, at least 512), distill (minutes), finetune or refit-finetune.",
    default="auto",
)
_SWEEP = Option(
    "sweep",
    "Measure all other budgets as well, to show them in a report (needs --out).",
    bool,
    False,
    section="Measuring",
    common=False,
)


@command(
    PLACE,
    _SWEEP,
    OPTIONS["out"].but(help="Folder for run.json, head_mask.json and arrays.npz."),
    "force",
    example="cahp prune minilm-bbc --budget 12 --recover refit --out run",
)
def prune(call: Call, sweep: bool, out: Path | None, force: bool) -> None:
    """Choose heads to keep, and measure the result.

    Heads are chosen on some texts. What that costs and saves is measured on others.
    """
    from cahp.api.prune import prune as prune_model
    from cahp.exports.run_folder import MARK, files, write_run

    if sweep and out is None:
        raise OptionError("--sweep measures all budgets for the folder of a run; name the folder with --out")
    names: Names = ()
    if out is not None:
        names = files(table=sweep)
    with optional_folder(out, force, names, MARK) as output:
        run = call.run(prune_model, call.settings, sweep=sweep, command=call.line)
        # Printed before it is written: a full disk must not cost hours of work.
        call.answer(run.document.to_json(), printing.run_lines(run.document, measures()))
        if output is None:
            call.wrote("  nothing was written; --out DIR writes the run's files")
        else:
            write_run(output, run, table=run.table)
            call.wrote(output.describe(names))
            call.wrote("  next      name this folder to cahp explore, report, export or evaluate")


@command(
    PLACE,
    "mask",
    FORCE,
    Option(
        "latency",
        "Also time the pruned model beside the full one, as `cahp latency` does.",
        bool,
        False,
        ("--latency",),
    ),
    example="cahp evaluate run",
)
def evaluate(call: Call, mask: Path | None, force: bool, latency: bool) -> None:
    """Evaluate a model with all heads, under a mask, and of a run also after its recovery."""
    timed = None
    if latency:
        timed = call.run(cahp.latency, call.settings, mask=mask, force=force)
    document = call.run(cahp.evaluate, call.settings, mask=mask, force=force)
    lines = [*printing.evaluation_lines(document)]
    if timed is not None:
        document = {**document, "latency": timed}
        lines += terminal.lines(show_latency(timed))
    call.answer(document, lines)


@command(
    PLACE,
    "mask",
    FORCE,
    OPTIONS["batch"].but(default=None, help="Texts per batch (default: 8; a causal language model: 1)."),
    Option(
        "length",
        "Tokens per text (default: 64; a causal language model: 128, 1,024 and 4,096, as the time allows).",
        int,
    ),
    Option(
        "repeats",
        "Number of rounds (default: until the ratio is known).",
        int,
        None,
        low=5,
    ),
    example="cahp latency run",
)
def latency(call: Call, **options: Any) -> None:
    """Time the pruned model beside the full one.

    The two are timed in turn. For a language model, the KV cache is counted, too.
    """
    document = call.run(cahp.latency, call.settings, **options)
    call.answer(document, terminal.lines(show_latency(document)))


@command(
    PLACE,
    "mask",
    MUST_OUT.but(help="Folder for the recovered model."),
    "force",
    _HOW,
    OPTIONS["epochs"].but(help="Epochs of a training (default: 3)."),
    OPTIONS["learning_rate"].but(
        help="Highest learning rate of a training (default: 1e-4, windows 5e-5, finetune: 2e-5)."
    ),
    OPTIONS["batch"].but(default=None, help="Texts per batch of a training (default: 64, windows 8, finetune: 32)."),
    example="cahp recover run --recover refit --out model",
)
def recover(call: Call, out: Path, force: bool, **options: Any) -> None:
    """Recover a pruned model, and save it.

    It is saved as a plain checkpoint that any tool loads.
    """
    _write_model(call, cahp.recover, out, force, options)


def _write_model(call: Call, use: Callable[..., Fields], out: Path, force: bool, options: Fields) -> None:
    with folder(out, force) as output:
        document = call.run(use, **call.given, out=output, force=force, **options, command=call.line)
    call.answer(document, printing.export_lines(document, output))


@command(
    PLACE,
    "mask",
    MUST_OUT.but(help="Folder for the model, or for the mask's file."),
    "force",
    Option("format", option_help(), default="compact"),
    _HOW.but(default=None, help=f"{_HOW.help[:-1]}, or none (default: that of the run, or none)."),
    Option(
        "push",
        "Upload the model to this new repository of the hub: org/name. It is private. A terminal asks first; "
        "elsewhere --yes is needed.",
    ),
    Option("push_public", "Let everybody read the repository of --push.", bool, False, ("--push-public",)),
    example="cahp export run --format onnx --out model",
)
def export(call: Call, out: Path, force: bool, **options: Any) -> None:
    """Write a pruned model for other tools.

    It is verified in a fresh process. A mask alone can be written, too.
    """
    _write_model(call, cahp.export, out, force, options)


@command(
    Option("run", "The folder that `cahp prune --out` wrote.", Path, argument=True),
    Option("site", "Write a page of the bundled results into this folder instead, for any static host.", Path),
    OPTIONS["out"].but(help="The HTML file (default: report.html in the folder of the run)."),
    "force",
    Option("static", "Leave out the board, for mail that forbids scripts.", bool, False, ("--static",)),
    of_call=("as_json",),
    example="cahp report run",
)
def report(call: Call, run: Path | None, site: Path | None, out: Path | None, force: bool, static: bool) -> None:
    """Write a run as one HTML file with its board.

    The file works offline.
    """
    from cahp.api.export import site as write_site

    if site is not None:
        if run is not None or static or out is not None:
            raise OptionError("--site writes a page of all bundled runs; leave out the run, --static and --out")
        page = write_site(site, force=force)
        call.answer(page, [f"  wrote     {page['file']} ({page['bytes']:,} bytes): {', '.join(page['models'])}"])
        return
    if run is None:
        raise OptionError("name the folder of a run, or --site and a folder to write to")
    document = cahp.report(run, out, static=static, force=force)
    call.answer(document, printing.report_lines(document))


@command(
    OPTIONS["data"].but(default=REQUIRED, help="Labelled texts to learn from."),
    MUST_OUT.but(help="Folder for the classifier."),
    "force",
    OPTIONS["model"].but(default="minilm"),
    OPTIONS["epochs"].but(help="Passes over the training texts (default: 4, with --whole 3)."),
    OPTIONS["learning_rate"].but(help="Highest learning rate (default: 5e-4, with --whole 2e-5)."),
    "batch",
    Option("rank", "Rank of the low-rank adapters (LoRA) (default: 16).", int),
    Option("whole", "Train all weights, as the paper does; resumes after its last epoch.", bool, False, ("--whole",)),
    Option("save", "model: a whole checkpoint; adapter: the adapter alone.", default="model"),
    LIMIT.but(help="Number of training texts (default: all)."),
    example="cahp fit --data bbc-news --out classifier",
)
def fit(call: Call, out: Path, force: bool, save: str, **options: Any) -> None:
    """Train a classifier on your texts.

    An encoder gets low-rank adapters, or all its weights are trained. The best epoch on validation is kept.
    """
    with folder(out, force) as output:
        document = call.run(cahp.fit, **call.given, out=output, save=save, **options)
    wrote = output.describe()
    if save == "model":
        flags = {name: describe()[name].flag for name in ("model", "data", "max_length", *COLUMNS)}
        arguments = to_arguments(replace(call.settings, model=str(output.folder)), flags)
        wrote += f": choose its heads with {shlex.join(['cahp', 'prune', *arguments])}"
    call.answer(document, [*printing.fit_lines(document), wrote])


@command(Option("name", "A model to look up.", argument=True), of_call=("as_json",), example="cahp models smollm2")
def models(call: Call, name: str | None) -> None:
    """List the built-in models, or look one up.

    It shows heads, memory and expected time of a model.
    """
    from cahp.api.preflight import builtins, preflight

    if name is None:
        entries = builtins()
        call.answer(entries, printing.catalogue_lines(entries))
    else:
        with call.bars():
            card = preview(name, prompt=make_prompt(call.settings.prompt, call.settings.answers))
            document = preflight(replace(card, max_length=call.settings.max_length))
        call.answer(document, printing.preflight_lines(document))


@command(
    Option("name", "Data to look up.", argument=True),
    OPTIONS["model"].but(default=None, fills=False, help="Model whose tokens are counted (default: words are)."),
    OPTIONS["max_length"].but(fills=False, help="Tokens of a text that this model reads (default: at most 512)."),
    of_call=("as_json", "yes"),
    example="cahp data bbc-news",
)
def data(call: Call, name: str | None, model: str | None, max_length: int | None) -> None:
    """List the data sets, or look one up.

    It shows the contents of a data set, and how long its texts are.
    """
    from cahp.api.preflight import describe_lengths

    if max_length is not None and model is None:
        raise OptionError("--max-length counts tokens of a model; name it with --model")
    if name is None:
        entries = [asdict(entry) for entry in data_sets.catalogue()]
        call.answer(entries, printing.catalogue_lines(entries))
        return
    dataset = data_sets.load(name, **call.settings.columns)
    card: ModelCard | None = None
    if model is not None:
        card = replace(identify(model), max_length=max_length)
    splits = {}
    for split, texts in dataset.splits.items():
        counts = dict(zip(texts.classes, texts.class_counts.tolist(), strict=True)) or None
        lengths = describe_lengths(texts.plain_inputs, card)
        splits[split] = {"examples": len(texts), "class_counts": counts, "lengths": lengths}
    document = {"id": dataset.id, "pairs": dataset.pairs, "splits": splits, "notices": list(dataset.notices)}
    call.answer(document, printing.data_lines(document))


METHODS = Option(
    "methods",
    "Methods, separated by commas (default: those of the preset); gradient-min-0 is gradient without a per-layer "
    "minimum.",
)
RECOVERIES = OPTIONS["recover"].but(
    default=None,
    fills=False,
    help=f"Recoveries, separated by commas: {', '.join(COMPARED)}.",
)


@command(
    PLACE,
    METHODS,
    Option("budgets", "Numbers of heads to keep: 6,12,20 or 10%,20%."),
    Option("seeds", "Number of seeds (5), or the seeds themselves (42,43)."),
    RECOVERIES,
    Option(
        "preset", "quick (the default without --methods), posthoc, full or recovery; language (for a language model)."
    ),
    LIMIT.but(help=f"{LIMIT.help[:-1]} (default: the preset's)."),
    OPTIONS["eval_limit"].but(default=None, fills=False),
    Option("tries", "Number of settings to try of each method, on tuning texts (1: the defaults).", int, 1, low=1),
    Option(
        "draws",
        "Masks of each random method over all seeds, at most 20 (default: the preset's).",
        int,
        low=1,
    ),
    "jobs",
    "cluster",
    Option("estimate", "Print what it would take, and measure nothing.", bool, False, ("--estimate",)),
    OPTIONS["out"].but(help="Folder for compare.json, a table and the answers."),
    "force",
    example="cahp compare minilm-bbc --budgets 12 --seeds 2 --out table",
)
def compare(call: Call, estimate: bool, out: Path | None, force: bool, **options: Any) -> None:
    """Compare methods under one protocol.

    An interrupted comparison resumes where it stopped.
    """
    from cahp.comparison.result import FILES, MARK
    from cahp.comparison.running import estimate_price
    from cahp.figures.comparison_blocks import show_comparison

    if estimate:
        price, description = call.run(estimate_price, call.settings, **options)
        call.answer(price, [description])
        return
    with optional_folder(out, force, FILES, MARK) as output:
        result = call.run(cahp.compare, **call.given, **options, command=call.line, lines=True)
        call.answer(result.as_json(), terminal.lines(show_comparison(result)))
        if output is None:
            call.wrote("  nothing was written; --out DIR writes compare.json, comparison.csv and the figures")
        else:
            call.wrote(output.describe(result.write(output)))


@command(
    PLACE,
    Option("text", "The text: a classifier reads it, a language model continues it."),
    Option("pair", "The second text, for a model that reads pairs."),
    Option("answer", 'A class, or one token that follows, such as " Paris" (default: the predicted one).'),
    Option("top", "Heads to remove exactly, each and together; at most half of all.", int, TOP, low=1, high=1000),
    Option("out", "JSON file to write: the mask of the fewest heads that keep the answer.", Path),
    "force",
    example='cahp attribute smollm2 --text "The capital of France is"',
)
def attribute(
    call: Call,
    text: str | None,
    pair: str | None,
    out: Path | None,
    force: bool,
    **question: Any,
) -> None:
    """Measure which heads matter for one text.

    Attribution patching estimates how the answer's log-probability changes without
    each head. The top heads, and random ones, are then removed exactly.
    """
    from cahp.exports.masks import MaskOrigin, mask_json
    from cahp.features.attribution.result import show_attribution

    if text is None:
        raise OptionError('a text is needed; give --text "..."')
    given: Input = text
    if pair is not None:
        given = text, pair
    with optional_file(out, force) as output:
        result = call.run(cahp.attribute, call.settings, given, **question)
        call.answer(result.to_json(), terminal.lines(show_attribution(result)))
        if output is not None and out is not None:
            if result.needed is None:
                raise OptionError(
                    f"the model predicts {result.shown_prediction}, so no mask keeps {result.shown_answer}; leave "
                    "out --answer"
                )
            mask = result.needed.mask
            metrics = {"answer": result.answer, "log_probability": result.needed.log_probability}
            budget = {"attained": mask.count}
            origin = MaskOrigin(result.model, "attribution", budget, metrics, model_sha256=result.model_sha256)
            output.write({out.name: mask_json(mask, origin)})
            call.wrote(output.describe([out.name]))


@command(
    PLACE,
    Option("ablate", "Also remove the heads of each role, and random ones of their layers (minutes).", bool, False),
    example="cahp roles smollm2",
)
def roles(call: Call, ablate: bool) -> None:
    """Measure what each head attends to.

    Roles are first token, induction, retrieval and others. Many heads have none.
    """
    from cahp.features.roles.section import ROLES_OF_HEADS

    settings = call.settings
    result = call.run(cahp.roles, settings.model, ablate=ablate, device=settings.device, dtype=settings.dtype)
    subject = MaskSubject(HeadMask.full(result.layers, result.heads))
    call.answer({"model": settings.model, **result.to_json()}, terminal.lines(ROLES_OF_HEADS.show(result, subject)))
