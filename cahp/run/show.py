"""A run as blocks: what the terminal, the report, the model card and the explorer show of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np

from cahp.goals import Goal
from cahp.models.cards import GenerationSpeed
from cahp.outcomes import OUTCOMES, Outcomes, main_outcome
from cahp.recoveries import DistillReport, RefitReport
from cahp.run.document import RunDocument, measured_states
from cahp.run.recoveries import RecoveryStep
from cahp.run.search import HeadSearch
from cahp.run.settings import Settings
from cahp.show.blocks import Blocks, Cell, Line, Marks, Table, Text
from cahp.values import Estimate, Fields, HeadMask
from cahp.words import ALL_HEADS, AS_PRUNED, capital, counted, duration, percent, rate, signed

#: The columns of the models; another state, such as that of rounded weights, has its own name.
STATE_NAMES = {"full": ALL_HEADS, "pruned": AS_PRUNED}


def show_run(run: RunDocument) -> Blocks:
    """Yield what a run chose and measured, without the records of its measures."""
    yield mark_kept(run.mask, run.rescued)
    yield from show_choice(run)
    if run.protocol is not None:
        yield Text(f"Measured on {run.protocol}.")
    yield show_outcomes(f"On {run.data.eval.split}, with 95 % intervals", run.outcomes)
    if run.report is not None:
        yield show_outcomes(f"On {run.report.split}, with 95 % intervals", run.report.outcomes)
    yield from show_recovery(run.refit, run.distill, run.steps)


def describe_choice(run: RunDocument) -> str:
    """Return how many heads are kept, and why as many."""
    model = run.model
    total = model.layers * model.heads
    method = ""
    if run.settings.method != Settings.method:
        method = f" by {run.settings.method}"
    kept = f"{run.budget.attained} of {total} {model.unit}s kept{method}"
    if run.goal is not None:
        return f"{kept} ({run.goal.choice})"
    if run.budget.requested is not None:
        rule = ""
        if run.knee:
            rule = f"; the published rule stops at {run.knee}"
        return f"{kept} (as requested{rule})"
    added = ""
    if run.rescued:
        added = f"; {len(run.rescued)} more by the per-layer minimum"
    # Some methods use only the number of clusters.
    return f"{kept} (the knee of the curve is at {run.clusters or run.knee} clusters{added})"


def mark_kept(mask: HeadMask, added: Iterable[tuple[int, int]]) -> Marks:
    """Return the kept heads of each layer; ``added`` are those kept only by the per-layer minimum."""
    groups = mask.keep.astype(np.int64)
    signs = ["·", "●"]
    words = ["pruned", "kept"]
    for layer, head in added:
        groups[layer, head] = 2
    if groups.max() == 2:
        signs.append("◆")
        words.append("added by the per-layer minimum")
    return Marks("kept", "kept heads", groups, signs, words, "heads", ends=[f"  {count} kept" for count in mask.counts])


def show_choice(run: RunDocument) -> Blocks:
    """Yield how heads and their number were chosen: goal, search, the price of an even mask, the rule on noise."""
    if run.goal is not None:
        units = f"{run.goal.heads} {run.model.unit}s"
        goal = Goal.parse(run.goal.goal)
        reached = f"{goal} is reached at {units}"
        if goal.is_counted:
            yield Line(f"{reached}: {run.goal.estimate} the full model's bytes, counted")
        else:
            measured = f"{run.goal.measured} of {run.goal.budgets} budgets were measured"
            yield Line(f"{reached}: {goal.describe(run.goal.estimate)}; {measured}")
            checks = {
                None: "The limit of the interval chose the number of heads on these texts: its figures are optimistic.",
                True: "The test split confirms it: the limit of its interval reaches the goal, too.",
                False: "The test split does not confirm it: the limit of its interval misses the goal.",
            }
            yield Text(checks[run.goal.confirmed])
    if run.search is not None:
        yield from _show_search(run.search)
    if run.evenness is not None:
        yield Line(run.evenness.finding)
    if run.knee_null is not None:
        yield Line(run.knee_null.describe(run.knee or 0))


def _show_search(search: HeadSearch) -> Blocks:
    words = f"search: {len(search.swaps)} of {search.tried} swaps accepted in {duration(search.seconds)}"
    if search.change is not None:
        words += f"; change in KL divergence on other calibration texts {search.change}"
    if search.kept:
        words += ": the heads at the start stay"
    yield Line(words)
    rows: list[list[Cell]] = []
    for swap in search.swaps:
        heads = [f"layer {layer} head {head}" for layer, head in (swap.removed, swap.restored)]
        rows.append([*heads, swap.change])
    if rows:
        yield Table("Swaps", ["removed", "kept instead", "change in KL divergence"], rows, name="swaps")


# Outcomes ------------------------------------------------------------------------------------------------------------


def show_outcomes(title: str, states: Mapping[str, Outcomes]) -> Table:
    """Return the outcomes of each model, a column each, with the number of texts; no rows: nothing was measured.

    The full model is not compared with itself.
    """
    shown = {state: dict(outcomes) for state, outcomes in states.items()}
    for name in shown.get("full", {}).keys() & {row.name for row in OUTCOMES.values() if row.difference}:
        del shown["full"][name]
    rows = _list_outcomes(list(shown.values()))
    if rows:
        rows.append(["n", *(main_outcome(outcomes)[1].n for outcomes in states.values())])
    return Table(title, ["", *(STATE_NAMES.get(state, state) for state in states)], rows, name="outcomes")


def _list_outcomes(columns: Sequence[Outcomes]) -> list[list[Cell]]:
    """Return a row for each outcome that was measured."""
    rows: list[list[Cell]] = []
    for name, row in OUTCOMES.items():
        estimates = [outcomes.get(name) for outcomes in columns]
        if any(estimates):
            rows.append([capital(row.row_label), *estimates])
    return rows


def show_recovery(refit: RefitReport | None, distill: DistillReport | None, steps: Sequence[RecoveryStep]) -> Blocks:
    """Yield what a recovery did, and the outcomes after each of its steps."""
    if refit is not None:
        how = f"{refit.row.solving} {refit.examples:,} inputs, no training"
        yield Text(f"The {refit.row.noun} was {refit.verdict} ({how}): {refit.reason}.")
    if distill is not None:
        yield from show_epochs([asdict(epoch) for epoch in distill.epochs])
        verdict = "rejected"
        if distill.accepted:
            verdict = "accepted"
        taught = f"taught by the full model on {distill.examples:,} inputs"
        if distill.labels:
            taught += " and their labels"
        yield Text(f"The distillation was {verdict} ({taught}): {distill.reason}.")
    yield from show_steps(steps)


def show_steps(steps: Sequence[RecoveryStep]) -> Blocks:
    """Yield the outcomes after each step of a recovery that has several, a column each, and what the step took."""
    if not steps:
        return
    accepted = {None: "", True: "yes", False: "no"}
    times = ["" if step.seconds is None else duration(step.seconds) for step in steps]
    rows = _list_outcomes([step.outcomes for step in steps])
    rows += [
        ["Change from the previous step", *(step.gained for step in steps)],
        ["n", *(main_outcome(step.outcomes)[1].n for step in steps)],
        ["Training inputs", *(step.examples for step in steps)],
        ["Time", *times],
        ["Accepted", *(accepted[step.accepted] for step in steps)],
    ]
    yield Table("Recovery step by step", ["", *(step.result for step in steps)], rows, name="steps")


def show_epochs(epochs: Iterable[Fields]) -> Blocks:
    """Yield the epochs of a training: the mean loss, the score on held-out texts, and the rate if these chose it."""
    rows = []
    score = "accuracy"
    for epoch in epochs:
        if "agreement" in epoch:
            score = "agreement"
        chosen = ""
        if epoch.get("learning_rate") is not None:
            chosen = f"{epoch['learning_rate']:g}"
        measured = ""
        if epoch[score] is not None:
            measured = percent(epoch[score])
        rows.append([str(epoch["epoch"]), f"{epoch['loss']:.3f}", measured, chosen])
    if rows:
        yield Table("", ["epoch", "loss", f"{score} on held-out texts", "learning rate"], rows, name="epochs")


# Costs ---------------------------------------------------------------------------------------------------------------


def show_cost(run: RunDocument | SimpleNamespace) -> Blocks:
    """Yield size, operations and latency of the full and the pruned model; of a language model its cache and speed."""
    cost = run.cost
    ratio = run.latency_ratio
    cache = run.kv_cache
    rows: list[list[Cell]] = []
    notes = []
    before = cost.full.latency_ms
    after = cost.pruned.latency_ms
    if cache is not None:
        rows.append(["KV cache per token", *_list_sizes(cache.full, cache.pruned, "{:,.0f} bytes")])
        longest = f"Longest context in {cache.memory / 2**30:g} GiB, tokens"
        rows.append([longest, cache.longest_full or "any", cache.longest_pruned or "any", ""])
        notes.append("The cache is counted in 32-bit numbers, not measured.")
    elif ratio is not None and before is not None and after is not None:
        change = _compare(ratio)
        if before.noisy or after.noisy:
            change = f"unreliable, the machine was busy: {ratio.text} {ratio.interval}"
        rows.append(["Time per batch, median", f"{before.median:.1f} ms", f"{after.median:.1f} ms", change])
        notes.append(
            f"A batch is {before.batch} texts of {before.length} tokens; n = {before.repeats} rounds, in which the "
            "models take turns."
        )
    else:
        yield Text("Time and size were not measured.")
        return
    if cost.full.parameters and cost.pruned.parameters:
        rows.append(["Weights", *_list_sizes(cost.full.parameters, cost.pruned.parameters, "{:.1f} M", 1e6)])
    if cost.full.flops and cost.pruned.flops:
        rows.append(["Operations per text", *_list_sizes(cost.full.flops, cost.pruned.flops, "{:.2f} G", 1e9)])
    yield Table("Cost, with 95 % intervals", ["", ALL_HEADS, "pruned", "change"], rows, name="cost")
    if cache is None and run.attention_share is not None:
        share = percent(run.attention_share, 0)
        notes.append(
            f"Attention takes {share} of the full forward pass, which is the most that pruning heads can save."
        )
    if cache is not None and run.attention_weights is not None:
        notes.append(
            f"Attention is {percent(run.attention_weights)} of the weights: pruning heads saves no more of them."
        )
    yield Text(" ".join(notes))
    if cache is not None:
        yield from _show_speed(run.speed)


def _list_sizes(full: int, pruned: int, written: str, scale: float = 1) -> list[str]:
    """Return two counts, and the change from one to the other."""
    sizes = [written.format(size / scale) for size in (full, pruned)]
    return [*sizes, f"{signed(100 * (pruned / full - 1))} %"]


def _compare(ratio: Estimate) -> str:
    words = f"{ratio.text} {ratio.interval}"
    if not ratio.excludes(1):
        return f"no measurable change: {words}"
    return words


def _show_speed(speed: GenerationSpeed | None) -> Blocks:
    if speed is None:
        yield Text("The speed of generation was not measured.")
        return
    rows = []
    for name, points in (("Prefill", speed.prefill), ("Decode", speed.decode)):
        for point in points:
            # The median of all ratios: two medians of their own would contradict it on a busy machine.
            pruned = point.full / point.ratio.value
            ratio = f"{_compare(point.ratio)}, n = {point.ratio.n}"
            rows.append([f"{name} at {point.context:,} tokens", rate(point.full), rate(pruned), ratio])
    yield Table("Tokens per second", ["", ALL_HEADS, "pruned", "ratio of times (95 %), n rounds"], rows, name="speed")
    words = "Prefill reads a whole context; decode writes one token after it. The models take turns."
    if speed.left_out:
        words += f" Not timed, for lack of time or memory: {', '.join(speed.left_out)}."
    yield Text(words)


def show_latency(document: Fields) -> Blocks:
    """Yield the document of ``cahp latency``."""
    ratio = document["latency_ratio"]
    rounds = document["cost"].full.latency_ms.repeats
    estimate = Estimate(ratio["median"], ratio["ci95"], rounds, "ratio")
    yield from show_cost(SimpleNamespace(**{**document, "latency_ratio": estimate}))
    yield from show_notes(document["notices"])


def show_evaluation(document: Fields) -> Blocks:
    """Yield the document of ``cahp evaluate`` or ``cahp recover``."""
    protocol = document.get("protocol")
    if protocol is not None:
        yield Text(f"Measured on {protocol}.")
    table = show_outcomes(f"On {document['data']['split']}, with 95 % intervals", measured_states(document))
    yield table
    if not table.rows:
        yield Text("Nothing to measure: one model without labels has no outcome; give --mask, or labelled data.")
    yield from show_recovery(document.get("refit"), document.get("distill"), document.get("steps", ()))
    yield from show_epochs(document.get("epochs", []))
    yield from show_notes(document["notices"], document.get("test_opened"))


# Checks --------------------------------------------------------------------------------------------------------------


def list_checks(run: RunDocument) -> list[str]:
    """Return, in sentences, what was verified of the run's mask."""
    checks = []
    if run.verified.mask_bites:
        checks.append("The logits depend on the gate of every head: the mask takes effect.")
    if run.verified.mask_equals_surgery:
        within = ""
        if run.verified.difference:
            within = f" (within {run.verified.difference:.0e})"
        checks.append(f"The cut model gives the answers of the masked one{within}.")
    return checks


def show_checks(run: RunDocument) -> Blocks:
    """Yield what was verified, what an earlier run had measured, and the notices."""
    yield Text(" ".join(list_checks(run)))
    if run.cached:
        yield Text(f"From an earlier run: {', '.join(run.cached)} (--no-cache measures again).")
    yield from show_notes(run.notices, run.test_opened)


def show_notes(notices: Iterable[str], test_opened: int | None = None) -> Blocks:
    """Yield notices, after how often the test split was opened."""
    if test_opened:
        yield Text(f"The test split was opened {counted(test_opened, 'time')} for this model.")
    for notice in notices:
        yield Text(f"note: {notice}")
