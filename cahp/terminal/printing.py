"""The results of commands as lines for a terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cahp.outcomes import Outcomes
    from cahp.output import Output
    from cahp.recoveries import DistillReport, RefitReport
    from cahp.run.document import RunDocument
    from cahp.run.recoveries import RecoveryStep
    from cahp.run.search import HeadSearch
    from cahp.tasks.answers import WindowProtocol
    from cahp.values import HeadMask

from cahp.exports.form import lines
from cahp.exports.formats import describe_runtimes, model_form
from cahp.goals import Goal, ReachedGoal
from cahp.outcomes import OUTCOMES, main_outcome
from cahp.run.measures import Measures, show_measured
from cahp.run.settings import Settings
from cahp.show.terminal import lines as block_lines
from cahp.terminal.costs import cost_lines, generation_lines
from cahp.values import Estimate
from cahp.words import duration, percent, size_of

Document = Mapping[str, Any]

#: A head of the grid: kept, pruned, or kept only by the per-layer minimum.
KEPT = "●"
PRUNED = "·"
ADDED = "◆"


def run_lines(run: RunDocument, measures: Measures = ()) -> Iterator[str]:
    """The summary of a run, with what the ``measures`` say of it."""
    model = run.model
    total = model.layers * model.heads
    method = ""
    if run.settings.method != Settings.method:
        method = f" by {run.settings.method}"
    yield f"{model.id} on {run.data.id}: {run.budget.attained} of {total} {model.unit}s kept{method}{_reason(run)}"
    if run.goal is not None:
        yield from _goal_lines(run.goal, f"{run.goal.heads} {model.unit}s")
    if run.search is not None:
        yield from _search_lines(run.search)
    yield ""
    yield from grid_lines(run.mask, run.rescued)
    if run.evenness is not None:
        yield f"  {run.evenness.finding}"
    if run.knee_null is not None:
        yield f"  {run.knee_null.describe(run.knee or 0)}"
    yield ""
    yield from _outcomes(run.data.eval.split, run.outcomes, run.protocol)
    if run.report is not None:
        yield ""
        yield from _outcomes(run.report.split, run.report.outcomes)
    yield from _describe_recovery(run.refit, run.distill, run.steps, run.protocol)
    for _, blocks in show_measured(measures, run):
        yield ""
        yield from block_lines(blocks, summary=True)
    yield ""
    if run.kv_cache is None:
        yield from cost_lines(run.cost, run.latency_ratio, run.attention_share)
    else:
        yield from generation_lines(run.cost, run.kv_cache, run.speed, run.attention_share, run.attention_weights)
    cut = "the attention of a layer of this model cannot be left out, so this is a mask only"
    if run.verified.mask_equals_surgery:
        cut = f"the cut model gives the answers of the masked one (within {run.verified.difference:.0e})"
    yield f"  verified  switching off any head changes its layer; {cut}"
    if run.cached:
        yield f"  cached    {', '.join(run.cached)}, from an earlier run (--no-cache measures again)"
    yield from list_notes(run.notices, run.test_opened)


def _goal_lines(goal: ReachedGoal, units: str) -> Iterator[str]:
    wanted = Goal.parse(goal.goal)
    if wanted.is_counted:
        yield f"  {goal.goal} is reached at {units}: {goal.estimate} the full model's bytes, counted"
        return
    yield (
        f"  {goal.goal} is reached at {units}: {wanted.describe(goal.estimate)}; {goal.measured} of "
        f"{goal.budgets} budgets were measured"
    )
    match goal.confirmed:
        case None:
            line = "  The number of heads was chosen on these texts, so its figures are optimistic"
            if not (wanted.wants_most or wanted.kind.section):
                line += "; --report test checks it on other texts"
            yield line
        case True:
            yield "  The test split confirms it: the limit of its interval reaches the goal, too"
        case False:
            yield "  The test split does not confirm it: the limit of its interval misses the goal"


def _search_lines(search: HeadSearch) -> Iterator[str]:
    """The swaps of a search for better heads, each with its change of KL divergence."""
    accepted = f"{len(search.swaps)} of {search.tried} swaps accepted in {duration(search.seconds)}"
    if search.change is None:
        yield f"  searched  {accepted}"
        return
    line = f"  searched  {accepted}; change in KL divergence on other calibration texts {search.change}"
    if search.kept:
        line += ": the heads at the start stay"
    yield line
    for swap in search.swaps:
        layer, head = swap.removed
        other, restored = swap.restored
        yield f"            layer {other} head {restored} instead of layer {layer} head {head}: {swap.change}"


def _reason(run: RunDocument) -> str:
    if run.goal is not None:
        goal = Goal.parse(run.goal.goal)
        number = "fewest"
        if goal.wants_most:
            number = "most"
        if goal.is_counted:
            return f" (the {number} that reach the goal)"
        reaches = "reach the goal"
        if goal.kind.outcome is not None:
            reaches = "reach the goal with the limit of the interval"
        return f" (the {number} of the {run.goal.measured} budgets tried that {reaches})"
    if run.budget.requested is not None:
        return f" (as requested; the published rule stops at {run.knee})" if run.knee else " (as requested)"
    name, _, degree = (run.knee_rule or "").partition("-")
    rule = "farthest from its chord"
    if name == "polynomial":
        rule = f"smoothed by a polynomial of degree {degree}"
    added = ""
    if run.rescued:
        added = f"; {len(run.rescued)} more by the per-layer minimum"
    count = run.clusters
    if count is None:
        # Some methods use only the number of clusters.
        count = run.knee
    return f" (the knee of the curve, {rule}, is at {count} clusters{added})"


def grid_lines(mask: HeadMask, added: Collection[tuple[int, int]] = ()) -> Iterator[str]:
    """The heads of each layer; ``added`` are those kept only by the per-layer minimum."""
    heads = mask.heads
    width = max(2, len(str(heads - 1)))
    yield "  layer   head " + " ".join(f"{head:>{width}}" for head in range(heads))
    for layer, kept in enumerate(mask.by_layer):
        marks = [PRUNED] * heads
        for head in kept:
            marks[head] = KEPT
        for place, head in added:
            if place == layer:
                marks[head] = ADDED
        yield f"  {layer:>5}        " + " ".join(f"{mark:>{width}}" for mark in marks) + f"   {len(kept)} kept"
    legend = f"  {KEPT} kept   {PRUNED} pruned"
    if added:
        legend += f"   {ADDED} added by the per-layer minimum"
    yield legend


def _outcomes(split: str, states: Mapping[str, Outcomes], protocol: WindowProtocol | None = None) -> Iterator[str]:
    """A table of outcomes, a column for each model; a row without any value is left out."""
    n = main_outcome(states["full"])[1].n
    title = f"on {split}, n = {n:,}"
    if protocol is not None:
        yield f"  measured on {protocol}"
        title += f" {protocol.units}"
    lines = [(title, [*states])]
    for name, row in OUTCOMES.items():
        estimates = [outcomes.get(name) for outcomes in states.values()]
        if len(states) == 1 and row.difference:
            # A model alone is not compared with itself.
            continue
        if any(estimates):
            lines.append((row.row_label, [_text(estimate) for estimate in estimates]))
        if any(estimate is not None and estimate.ci95 for estimate in estimates):
            lines.append(("  95 % interval", [_interval(estimate) for estimate in estimates]))
    label_width = max(len(title), *(len(row.row_label) for row in OUTCOMES.values()))
    cell_width = max(18, *(len(cell) + 1 for _, cells in lines for cell in cells))
    for label, cells in lines:
        yield f"  {label:<{label_width}}" + "".join(f"{cell:>{cell_width}}" for cell in cells)
    if len(lines) == 1:
        yield "  nothing to measure: one model without labels has no outcome; give --mask, or labelled data"


def _text(estimate: Estimate | None) -> str:
    return "" if estimate is None else estimate.text


def _interval(estimate: Estimate | None) -> str:
    return "" if estimate is None else estimate.interval


def evaluation_lines(document: Document) -> Iterator[str]:
    """The result of ``cahp evaluate`` or ``cahp recover``."""
    kept = document["kept"]
    heads = "all heads"
    if kept is not None:
        heads = f"{kept['heads']} of {kept['of']} heads"
    yield f"{document['model']} on {document['data']['id']}: {heads}"
    yield ""
    measured = {state: outcomes for state, outcomes in document["outcomes"].items() if outcomes is not None}
    protocol = document.get("protocol")
    yield from _outcomes(document["data"]["split"], measured, protocol)
    yield from _describe_recovery(document.get("refit"), document.get("distill"), document.get("steps", ()), protocol)
    yield from _list_epochs(document.get("epochs", []))
    yield from list_notes(document["notices"], document.get("test_opened"))


def export_lines(document: Document, output: Output | None = None) -> Iterator[str]:
    """The result of ``cahp export`` in ``output`` (None: it could not be written)."""
    kept = document["kept"]
    if "file" in document:
        yield f"{document['model']}: a mask of {kept['heads']} of {kept['of']} heads"
        if output is not None:
            yield output.describe([document["file"]])
        yield from list_notes(document["notices"])
        return
    if document["metrics"]:
        yield from evaluation_lines(document)
    else:
        yield f"{document['model']}: {kept['heads']} of {kept['of']} heads, not evaluated (no data were given)"
    form = model_form(document["form"])
    full = document["parameters"]["full"]
    pruned = document["parameters"]["pruned"]
    if output is None:
        yield f"  size      {full:,} weights -> {pruned:,}"
        return
    size = f"  size      {full:,} weights -> {pruned:,}; {document['bytes'] / 1e6:.1f} MB on disk"
    if form.keeps_shapes:
        size += ", where those of pruned heads are zeros"
    yield size
    words = "texts" if document.get("protocol") is None else "tokens"
    closeness = form.closeness(
        document["difference"],
        document["agreement"],
        document["tried"],
        written=document["written"],
        words=words,
    )
    yield f"  verified  read back in a fresh process, {closeness}"
    if document.get("note"):
        yield f"  note      {document['note']}"
    yield f"  runs in   {describe_runtimes(form)}"
    if document["files"]:
        yield from lines(document["files"], form.runtime)
    yield f"{output.describe()} ({document['form']}): {document['loads']}"
    if document["pushed"]:
        yield f"  uploaded  {document['pushed']}"


def data_lines(document: Document) -> Iterator[str]:
    """The contents of a data set."""
    classes = next(iter(document["splits"].values()))["class_counts"]
    texts = "pairs of texts" if document["pairs"] else "texts"
    content = "no labels" if classes is None else f"{len(classes)} classes"
    yield f"{document['id']}: {texts}, {content}"
    for split, contents in document["splits"].items():
        counts = ", ".join(f"{name} {count:,}" for name, count in (contents["class_counts"] or {}).items())
        yield f"  {split:<12}{contents['examples']:>7,}   {counts}".rstrip()
        yield f"              {_describe_lengths(contents['lengths'])}"
    yield from list_notes(document["notices"])


def _describe_lengths(lengths: Mapping[str, Any]) -> str:
    """How long the texts of a split are, and how many of them a model does not read to the end."""
    found = (
        f"{lengths['unit']} of a text: median {lengths['median']:,}, 95th percentile {lengths['p95']:,}, longest "
        f"{lengths['longest']:,}"
    )
    if not lengths["cut"]:
        return found
    return f"{found}; {lengths['cut']:,} are longer than the {lengths['max_length']:,} tokens that are read"


def fit_lines(document: Document) -> Iterator[str]:
    """The result of ``cahp fit``."""
    yield f"{document['model']} trained on {document['data']['train'].examples:,} texts of {document['data']['id']}"
    yield from _list_epochs(document["epochs"])
    for split, outcomes in (document["outcomes"] or {}).items():
        yield f"  {split:<12}accuracy {outcomes['accuracy']}"
    yield from list_notes(document["notices"])


def latency_lines(document: Document) -> Iterator[str]:
    """The result of ``cahp latency``."""
    ratio = document["latency_ratio"]
    rounds = document["cost"].full.latency_ms.repeats
    estimate = Estimate(ratio["median"], ratio["ci95"], rounds, "ratio")
    cache = document["kv_cache"]
    share = document["attention_share"]
    if cache is None:
        yield from cost_lines(document["cost"], estimate, share)
    else:
        yield from generation_lines(document["cost"], cache, document["speed"], share, document["attention_weights"])
    yield from list_notes(document["notices"])


def report_lines(document: Document) -> Iterator[str]:
    """The result of ``cahp report``."""
    board = "a report without a board"
    if document["answers"]:
        board = f"its board shows {document['measured']} of {document['budgets']} budgets measured"
    yield f"wrote {document['file']} ({document['bytes'] / 1e3:.0f} kB): {board}"


def catalogue_lines(entries: Iterable[Document]) -> Iterator[str]:
    """The models or data sets that are known by name."""
    for entry in entries:
        line = f"{entry['name']:<14}{entry['description']}"
        if not entry["available"]:
            line += "  (read from the hub)" if entry.get("kind") == "preset" else "  (not installed)"
        yield line


#: Types of 16 bits, by their names in files of weights.
_HALVES = {"BF16": "bfloat16", "F16": "float16"}


def preflight_lines(document: Document) -> Iterator[str]:
    """The facts about a model before it is used; see ``cahp.api.preflight``."""
    yield f"{document['id']}: supported ({document['family']})"
    layers = document["layers"]
    heads = document["heads"]
    yield f"  heads     {layers} layers x {heads} = {layers * heads}"
    if document["prompt"]:
        tokens = [f"{answer['word']} (token {answer['token']})" for answer in document["prompt"]["answers"]]
        yield f"  answers   {', '.join(tokens or document['labels'])}"
        yield f"  prompt    {document['prompt']['prompted']}"
    elif document["labels"]:
        yield f"  classes   {', '.join(document['labels'])}"
    elif document["language"] == "causal":
        yield "  classes   none: a language model, measured on its next tokens (or give it --prompt and --answers)"
    elif document["language"]:
        yield f"  classes   none: a {document['language']} language model; give it --prompt and --answers"
    else:
        yield "  classes   none: an encoder; train a classifier on it with `cahp fit`"
    if document["parameters"]:
        line = f"  weights   {document['parameters'] / 1e6:.1f} M"
        halves = [_HALVES[name] for name in document["types"] or () if name in _HALVES]
        if halves:
            line += f", stored in {' and '.join(halves)} (--dtype auto keeps them so)"
        yield line
    if document["to_fetch_bytes"]:
        yield f"  download  {size_of(document['to_fetch_bytes'])} from the hub, at commit {document['revision'][:12]}"
    if document["kv_cache"]:
        line = f"  cache     keys and values take {document['kv_cache']:,} bytes per token"
        if document["attention_weights"] is not None:
            line += f"; attention is {percent(document['attention_weights'])} of the weights"
        yield line
    if document["memory_bytes"]:
        yield f"  memory    about {document['memory_bytes'] / 2**30:.1f} GiB for the default run"
    if document["expected_s"]:
        line = f"  time      about {duration(document['expected_s'])} for the default run on this machine's processor"
        if document["expected_refit_s"] is not None:
            line += f" ({duration(document['expected_refit_s'])} with --recover refit)"
        yield line
    if document["max_length"]:
        limit = f"{document['max_length']:,}"
        longest = duration(document["expected_longest_s"])
        yield f"  texts     at most {limit} tokens are read of each (--max-length); if all are so long, about {longest}"
    if document["pruned_before"]:
        yield "  pruned    already: it can be evaluated, and its heads cannot be pruned again"
    else:
        yield f"  exports   {', '.join(document['exports'])}"
    yield from list_notes(document["notes"])


def _list_epochs(epochs: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for epoch in epochs:
        yield epoch_line(epoch["epoch"], epoch["loss"], epoch["accuracy"], learning_rate=epoch.get("learning_rate"))


def epoch_line(
    epoch: int, loss: float, accuracy: float | None, *, learning_rate: float | None = None, taught: bool = False
) -> str:
    """An epoch of a training on labels, or ``taught`` by the full model; with its rate if held-out texts chose it."""
    line = f"  epoch {epoch:>2}  loss {loss:.3f}"
    if accuracy is not None:
        outcome = "agreement" if taught else "accuracy"
        line += f", {outcome} {percent(accuracy)} on held-out texts"
    if learning_rate is not None:
        line += f", learning rate {learning_rate:g}"
    return line


def _describe_recovery(
    refit: RefitReport | None,
    distill: DistillReport | None,
    steps: Sequence[RecoveryStep],
    protocol: WindowProtocol | None = None,
) -> Iterator[str]:
    """What a recovery did, and the accuracy, agreement and KL divergence after each of its steps."""
    texts = "texts" if protocol is None else "windows"
    if refit:
        row = refit.row
        yield f"  {row.noun} {refit.verdict} ({row.solving} {refit.examples} {texts}, no training): {refit.reason}"
    if distill:
        for epoch in distill.epochs:
            yield epoch_line(epoch.epoch, epoch.loss, epoch.agreement, taught=True)
        verb = "accepted" if distill.accepted else "rejected"
        taught = f"taught by the full model on {distill.examples} {texts}"
        if distill.labels:
            taught += " with labels"
        elif protocol is None:
            taught += " without labels"
        yield f"  distillation {verb} ({taught}): {distill.reason}"
    if steps:
        outcome, first = main_outcome(steps[0].outcomes)
        yield f"  {outcome.name} after each step, n = {first.n:,} (95 % intervals)"
    for step in steps:
        outcome, value = main_outcome(step.outcomes)
        line = f"    {step.result:<10}{value.text:>7} {value.interval:<14}"
        if outcome.name != "agreement":
            line += f"{step.outcomes['agreement'].text:>7} agreement"
        if "kl" in step.outcomes:
            line += f"   KL {step.outcomes['kl'].text} {step.outcomes['kl'].interval}"
        if step.gained is not None:
            line += f"   {step.gained.text} {step.gained.interval}"
        if step.seconds is not None:
            line += f"   {duration(step.seconds)}"
        if step.accepted is False:
            line += "   (rejected: nothing changed)"
        yield line


def list_notes(notices: Iterable[str], test_opened: int | None = None) -> Iterator[str]:
    """Notices, after how often the test split was opened."""
    if test_opened:
        yield f"  the test split was opened {test_opened} time(s) for this model"
    for notice in notices:
        yield f"  note: {notice}"
