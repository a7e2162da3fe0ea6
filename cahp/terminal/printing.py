"""A run as a person reads it in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cahp.outcomes import Outcomes
    from cahp.output import Output
    from cahp.recoveries import DistillReport, RefitReport
    from cahp.run.document import CostRecord, RunDocument
    from cahp.run.recovery_steps import RecoveryStep
    from cahp.values import Estimate, HeadMask

from cahp.export.footprint import lines
from cahp.export.formats import model_form
from cahp.outcomes import OUTCOMES
from cahp.run.settings import Settings
from cahp.words import duration, percent

Document = Mapping[str, Any]

KEPT, PRUNED, RESCUED = "●", "·", "◆"


def summary(run: RunDocument) -> Iterator[str]:
    """The whole summary of a run."""
    model, total = run.model, run.model.layers * run.model.heads
    yield f"{model.id} on {run.data.id}: {run.budget.attained} of {total} heads kept{_by(run)}{_how(run)}"
    yield ""
    yield from grid(run.mask, run.rescued)
    yield ""
    yield from _outcomes(run.data.eval.split, run.outcomes)
    if run.report is not None:
        yield ""
        yield from _outcomes(run.report.split, run.report.outcomes)
    if run.refit is not None:
        yield _refit(run.refit)
    if run.distill is not None:
        yield from _distill(run.distill)
    yield from _steps(run.steps)
    yield ""
    yield from cost(run.cost, run.latency_ratio, run.attention_share)
    yield from _trust(run)


def _by(run: RunDocument) -> str:
    method = run.settings.method
    return "" if method == Settings.method else f" by {method}"


def _how(run: RunDocument) -> str:
    if run.budget.requested is not None:
        return f" (as asked; the curve suggests {run.knee})" if run.knee else " (as asked)"
    name, _, degree = (run.knee_rule or "").partition("-")
    rule = f"smoothed by a polynomial of degree {degree}" if name == "polynomial" else "farthest from its chord"
    rescued = len(run.rescued)
    more = f"; {rescued} more so that no layer is empty" if rescued else ""
    # Some methods take from the clusters only how many heads to keep.
    count = run.knee if run.clusters is None else run.clusters
    return f" (the knee of the curve, {rule}, lies at {count} clusters{more})"


def grid(mask: HeadMask, rescued: Iterable[tuple[int, int]]) -> Iterator[str]:
    """The layers and their heads, kept ones solid."""
    heads = mask.heads
    width = max(2, len(str(heads - 1)))
    yield "  layer   head " + " ".join(f"{head:>{width}}" for head in range(heads))
    back = set(rescued)
    for layer, kept in enumerate(mask.by_layer):
        alive = set(kept)
        marks = [(RESCUED if (layer, head) in back else KEPT) if head in alive else PRUNED for head in range(heads)]
        yield f"  {layer:>5}        " + " ".join(f"{mark:>{width}}" for mark in marks) + f"   {len(alive)} kept"
    legend = f"  {KEPT} kept   {PRUNED} pruned"
    yield legend + (f"   {RESCUED} kept so that no layer is empty" if back else "")


def _outcomes(split: str, states: Mapping[str, Outcomes]) -> Iterator[str]:
    """A table of outcomes, a column for each model; a row without any value is left out."""
    title = f"on {split}, n = {states['full']['accuracy'].n:,}"
    wide = max(len(title), *(len(row.label) for row in OUTCOMES.values()))

    def line(name: str, cells: Iterable[str]) -> str:
        return f"  {name:<{wide}}" + "".join(f"{cell:>18}" for cell in cells)

    yield line(title, states)
    for name, row in OUTCOMES.items():
        estimates = [outcomes.get(name) for outcomes in states.values()]
        if any(estimates):
            yield line(row.label, ["" if one is None else one.text for one in estimates])
        if any(one is not None and one.ci95 for one in estimates):
            yield line("  95 % interval", ["" if one is None else one.interval for one in estimates])


def cost(found: CostRecord, ratio: Estimate | None, attention_share: float | None) -> Iterator[str]:
    """Size, operations and latency before and after."""
    full, pruned = found.full, found.pruned
    before, after = full.latency_ms, pruned.latency_ms
    if ratio is None or before is None or after is None:
        yield "  time and size were not measured"
        return
    weights, smaller = full.parameters or 0, pruned.parameters or 0
    flops, fewer = full.flops or 0, pruned.flops or 0
    yield (
        f"  size      {weights / 1e6:.1f} M weights -> {smaller / 1e6:.1f} M "
        f"({percent(1 - smaller / weights)} fewer), operations {percent(1 - fewer / flops)} fewer"
    )
    yield (
        f"  latency   {_change(ratio)}: pruned / full {ratio.value:.2f} {ratio.interval}, n = {before.repeats} rounds"
    )
    yield (
        f"            {before.median:.1f} ms -> {after.median:.1f} ms a batch of {before.batch} texts of "
        f"{before.length} tokens (median; 95th percentile {before.p95:.1f} -> {after.p95:.1f})"
    )
    yield (
        f"            attention takes {percent(attention_share, 0)} of the full forward pass: "
        "no pruning of heads can save more"
    )


def _change(ratio: Estimate) -> str:
    """A speed-up in words; a ratio that could as well be 1 is no saving."""
    return f"{1 / ratio.value:.2f} x as fast" if ratio.excludes(1) else "no measurable change"


def quality(found: Document) -> Iterator[str]:
    """What ``cahp evaluate`` and ``cahp recover`` found."""
    kept = found["kept"]
    heads = "all heads" if kept is None else f"{kept['heads']} of {kept['of']} heads"
    yield f"{found['model']} on {found['data']['id']}: {heads}"
    yield ""
    measured = {state: outcomes for state, outcomes in found["outcomes"].items() if outcomes is not None}
    yield from _outcomes(found["data"]["split"], measured)
    if found.get("refit"):
        yield _refit(found["refit"])
    if found.get("distill"):
        yield from _distill(found["distill"])
    yield from _steps(found.get("steps", ()))
    for epoch in found.get("epochs", []):
        yield epoch_line(**epoch)
    if found.get("test_opened"):
        yield f"  the test split was opened {found['test_opened']} time(s) for this model"
    for notice in found["notices"]:
        yield f"  note: {notice}"


def exported(found: Document, output: Output | None = None) -> Iterator[str]:
    """What ``cahp export`` wrote to ``output``; None if it could not be written."""
    kept = found["kept"]
    if "file" in found:
        yield f"{found['model']}: a mask of {kept['heads']} of {kept['of']} heads"
        if output is not None:
            yield output.describe([found["file"]])
        return
    if found["metrics"]:
        yield from quality(found)
    else:
        yield f"{found['model']}: {kept['heads']} of {kept['of']} heads, nothing measured (no data were given)"
    form = model_form(found["form"])
    full, pruned = found["parameters"]["full"], found["parameters"]["pruned"]
    if output is None:
        yield f"  size      {full:,} weights -> {pruned:,}"
        return
    yield f"  size      {full:,} weights -> {pruned:,}; {found['bytes'] / 1e6:.1f} MB on disk"
    yield (
        "  verified  read back in a fresh process, "
        + form.closeness(found["difference"], found["agreement"], found["tried"])
    )
    if found["files"] and form.runtime is not None:
        yield from lines(found["files"], form.runtime.name)
    yield f"{output.describe()} ({found['form']}): {found['loads']}"


def contents(found: Document) -> Iterator[str]:
    """What is in a data set."""
    classes = next(iter(found["splits"].values()))["class_counts"]
    yield f"{found['id']}: {'pairs of texts' if found['pairs'] else 'texts'}, {len(classes)} classes"
    for split, one in found["splits"].items():
        counts = ", ".join(f"{name} {count:,}" for name, count in one["class_counts"].items())
        yield f"  {split:<12}{one['examples']:>7,}   {counts}"
    for notice in found["notices"]:
        yield f"  note: {notice}"


def fitted(found: Document) -> Iterator[str]:
    """What ``cahp fit`` found."""
    yield f"{found['model']} trained on {found['data']['train'].examples:,} texts of {found['data']['id']}"
    for epoch in found["epochs"]:
        yield epoch_line(**epoch)
    for split, one in (found["outcomes"] or {}).items():
        yield f"  {split:<12}accuracy {one['accuracy']}"
    for notice in found["notices"]:
        yield f"  note: {notice}"


def epoch_line(epoch: int, loss: float, accuracy: float | None, *, taught: bool = False) -> str:
    """What came of an epoch of training, on labels or ``taught`` by the full model."""
    how = "answered as by the full model" if taught else "right"
    held_out = "" if accuracy is None else f", {percent(accuracy)} of the held-out texts {how}"
    return f"  epoch {epoch:>2}  loss {loss:.3f}{held_out}"


def _refit(said: RefitReport) -> str:
    verb = "kept" if said.accepted else "rejected"
    return f"  refit {verb} (projections solved anew on {said.examples} texts, no training): {said.reason}"


def _distill(said: DistillReport) -> Iterator[str]:
    for epoch in said.epochs:
        yield epoch_line(epoch.epoch, epoch.loss, epoch.agreement, taught=True)
    verb = "kept" if said.accepted else "rejected"
    labels = "and their labels" if said.labels else "without labels"
    yield f"  distillation {verb} (taught by the full model on {said.examples} texts {labels}): {said.reason}"


def _steps(said: Sequence[RecoveryStep]) -> Iterator[str]:
    """What each step of a recovery brought, a line a step."""
    if not said:
        return
    yield f"  accuracy after each step, n = {said[0].outcomes['accuracy'].n:,} (95 % intervals)"
    for one in said:
        accuracy, agreement, gained = one.outcomes["accuracy"], one.outcomes["agreement"], one.gained
        line = f"    {one.result:<10}{accuracy.text:>7} {accuracy.interval:<14}{agreement.text:>7} agreement"
        if gained is not None:
            line += f"   {gained.text} {gained.interval}"
        if one.seconds is not None:
            line += f"   {duration(one.seconds)}"
        yield line + ("   (not taken: nothing changed)" if one.accepted is False else "")


def _trust(run: RunDocument) -> Iterator[str]:
    verified = run.verified
    if verified.mask_equals_surgery:
        yield (
            "  verified  switching any head off changes its layer; with the heads cut out the answers are those of the "
            f"mask (within {verified.difference:.0e})"
        )
    else:
        yield (
            "  verified  switching any head off changes its layer; a layer without heads cannot be cut out, so this is "
            "a mask only"
        )
    if run.cached:
        yield f"  from an earlier run: {', '.join(run.cached)} (--no-cache measures anew)"
    if run.test_opened:
        yield f"  the test split was opened {run.test_opened} time(s) for this model"
    for notice in run.notices:
        yield f"  note: {notice}"
