"""Stability: how often each head is kept over seeds, samples and degrees, and how much the choice varies.

A choice of heads is the selection with one degree, with one seed, or from one sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from cahp.features.stability.measuring import (
    Axis,
    Stability,
    cached,
    divergence_figure,
    frequency_figure,
    knee_figure,
    measure_choices,
    over_degrees,
    stability,
)
from cahp.figures import places
from cahp.outcomes import HEADLINES, Outcomes
from cahp.run import Bench
from cahp.ui.frame import draw_knee, job_card
from cahp.ui.parts import display
from cahp.ui.session import Explorer, Kind, Rank, pass_seconds
from cahp.values import Estimate, HeadMask, Progress, digest
from cahp.words import capital, counted, duration, span

#: Seconds of a projection and a clustering of about a hundred heads, on two cores.
_CLUSTERING_S = 1.0
#: The largest number of clusters, as a multiple of the smallest, that is called stable.
_STABLE = 1.25
#: That which only varies.
_VARYING = 2.0


@dataclass(frozen=True)
class Variation:
    """A quantity that resampling varies, and its descriptions."""

    label: str
    means: str
    column: str


@dataclass(frozen=True, eq=False)
class Asked:
    """The resamples that a person asks for."""

    bench: Bench
    axis: Axis
    resamples: int
    budget: int | None

    def __str__(self) -> str:
        bench = self.bench
        wanted = f"{self.axis}-{self.resamples}-{self.budget}"
        return f"{bench.card.sha256}-{bench.calibration.sha256}-{digest(repr(bench.settings))}-{wanted}"


def _stability(asked: Asked, progress: Progress) -> Stability:
    return stability(asked.bench, axis=asked.axis, resamples=asked.resamples, budget=asked.budget, progress=progress)


#: Repeat the choice of heads.
RESAMPLE: Kind[Asked, Stability] = Kind(
    _stability, lambda asked: f"stability-{asked}", Rank.RUN, awaited=False, title="Stability"
)
#: Evaluate the choice of each resample.
CHOICES: Kind[tuple[Bench, Stability], Sequence[Outcomes]] = Kind(
    lambda subject, progress: measure_choices(*subject, progress=progress),
    lambda subject: f"choices-{subject[0].evaluation.sha256}-{digest(subject[1].masks.tobytes())}",
    Rank.RUN,
    awaited=False,
    seconds=lambda subject: pass_seconds(subject[0], evaluation=len(subject[1].masks)),
    title="Stability",
)

# The first needs no computation, so the page opens with a result.
VARIATIONS: dict[Axis, Variation] = {
    "degree": Variation(
        "Curve smoothing",
        "Varies the degree of the polynomial that smooths the silhouette curve, and so the knee.",
        "degree of the polynomial",
    ),
    "seed": Variation(
        "Random seed",
        "Varies the random seed of the projection and the clustering.",
        "seed of the projection",
    ),
    "sample": Variation(
        "Text sample",
        "Varies the texts: each resample uses a random half of the calibration texts (five of ten stratified parts). "
        "Halves vary about as much as new samples of full size.",
        "number of the sample",
    ),
}


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    st.title("Is the choice of heads stable?")
    st.markdown(
        "The choice of heads depends on a random projection, on a sample of texts and on the degree of a polynomial. "
        f"This page changes one of them, repeats the choice, and counts how often each {explorer.card.unit} is kept."
    )
    axis, resamples, budget = _draw_form(explorer)
    result = _resample(explorer, axis, resamples, budget)
    if result is not None:
        _draw_result(explorer, result, requested=resamples, budget=budget)
    if explorer.clusters is not None:
        st.subheader("Is the number of heads a property of the data?")
        draw_knee(explorer, place="stability")


def _draw_form(explorer: Explorer) -> tuple[Axis, int, int | None]:
    """Ask what to vary, how often, and how many heads to keep."""
    what, often, how_many = st.columns([12, 5, 8], vertical_alignment="top", gap="medium")
    with what:
        axis: Axis = (
            st.segmented_control(
                "What to vary",
                list(VARIATIONS),
                default="degree",
                required=True,
                format_func=lambda axis: VARIATIONS[axis].label,
                key="stability-axis",
                persist_state="session",
            )
            or "degree"
        )
        st.caption(VARIATIONS[axis].means)
    if axis == "degree":
        # All degrees are compared, and they choose the number.
        return axis, 0, None
    with often:
        resamples = st.select_slider(
            "Resamples",
            [6, 12, 20, 30],
            12,
            key="stability-resamples",
            persist_state="session",
            help="More resamples give narrower intervals: with 12, a head kept half of the time shows 25 to 75 %.",
        )
    with how_many:
        by_rule = "published rule"
        fixed = f"always {explorer.board.budget}"
        heads = st.segmented_control(
            f"{capital(explorer.card.unit)}s to keep",
            [by_rule, fixed],
            default=by_rule,
            required=True,
            key=f"stability-budget-{explorer.board.budget}",
            persist_state="session",
            help="With a fixed number, only which ones are chosen can vary, not how many.",
        )
    budget = None
    if heads == fixed:
        budget = explorer.board.budget
    return axis, int(resamples), budget


def _resample(explorer: Explorer, axis: Axis, resamples: int, budget: int | None) -> Stability | None:
    """Return the resamples; None until they are asked for and computed."""
    bench = explorer.bench
    settings = explorer.settings
    if axis == "degree" and explorer.clusters is not None:
        return over_degrees(explorer.clusters.clustering, explorer.clusters.salience, settings)
    asked = Asked(bench, axis, resamples, budget)
    if explorer.work.job(RESAMPLE, asked) is None:
        stored = cached(bench, axis=axis, resamples=resamples, budget=budget)
        if stored is not None:
            return stored
        st.caption(_describe_cost(explorer, axis, resamples))
    return job_card(explorer, RESAMPLE, asked, name="stability", offer="Resample", type="primary")


def _describe_cost(explorer: Explorer, axis: Axis, resamples: int) -> str:
    # Without a run, or with a bundled one, the statistics are not on this machine; parts of the texts have their own.
    reads = (explorer.results.run is None or explorer.results.bundled) + (axis == "sample")
    resamples = max(1, resamples)
    seconds = pass_seconds(explorer.bench, calibration=reads, evaluation=0) + resamples * _CLUSTERING_S
    read = "Computes"
    if reads:
        read = f"Reads {explorer.bench.calibration.measured}, then computes"
    return (
        f"{read} {counted(resamples, 'projection')}, each clustered: about {duration(seconds)}. Results are stored on "
        "this machine and reused."
    )


# The result --------------------------------------------------------------------------------------------------


def _draw_result(explorer: Explorer, result: Stability, *, requested: int, budget: int | None) -> None:
    """Draw the overlap of choices, how often each head is kept, and the knees."""
    unit = explorer.card.unit
    if len(result.masks) < 2:
        st.warning("Fewer than two resamples have a knee in the silhouette curve. Choose a fixed number instead.")
        return
    verdict = state_verdict(result, unit)
    if not budget:
        verdict += state_number(result)
    st.subheader(verdict)
    st.caption(describe_resamples(result, requested))
    _draw_metrics(result, unit)
    original = _original(explorer, budget)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        _draw_frequency(explorer, result, original, budget)
    with right:
        _draw_knees(result, unit)
    _draw_choices(explorer, result)


def _draw_metrics(result: Stability, unit: str) -> None:
    """Draw the overlap, how many heads are kept always and never, and where the knee is."""
    count = len(result.masks)
    with st.container(key="stability-figures"):
        overlap, always, never, moved = st.columns(4)
    overlap.metric(
        "Overlap of two choices",
        f"{result.overlap:.2f}",
        f"{result.chance:.2f} by chance",
        delta_color="off",
        delta_arrow="off",
        help=f"Mean Jaccard index over all pairs of choices: the {unit}s that both keep, as a share of those that at "
        "least one keeps. By chance: two random sets of the same sizes.",
    )
    frequency = result.frequency
    total = frequency.size
    always.metric("Always kept", f"{int((frequency == 1).sum())} of {total}")
    never.metric("Never kept", f"{int((frequency == 0).sum())} of {total}")
    knees = result.knees[result.knees > 0]
    reach = "no knee"
    if len(knees):
        reach = f"{knees.min()} to {knees.max()}"
    moved.metric(
        "Clusters at the knee",
        reach,
        help="The number of clusters at which the published rule stops. It is called stable if the largest is at most "
        "a quarter above the smallest, and unstable if it is more than double.",
    )
    if result.overlap_ci95 is not None:
        overlap.caption(f"{span(*result.overlap_ci95, 2)} (95 % interval), n = {count} resamples")
    for column, times in ((always, count), (never, 0)):
        interval = result.share_ci95(times)
        if interval is not None:
            share = span(100 * interval[0], 100 * interval[1], 0)
            column.caption(f"n = {count}: such a {unit} is kept in {share} % of resamples (95 % interval)")
    moved.caption(f"n = {len(knees)}")


def _draw_frequency(explorer: Explorer, result: Stability, original: HeadMask | None, budget: int | None) -> None:
    """Draw how often each head is kept, with those framed that are kept on all texts."""
    unit = explorer.card.unit
    frequency = result.frequency
    data: dict[str, list[Any]] = {**places(*frequency.shape), "share of choices": frequency.ravel().round(4).tolist()}
    title = f"{int((frequency == 1).sum())} {unit}s are in every choice"
    framed = ""
    if original is not None:
        who = "CAHP keeps on these texts" if budget else "the published rule keeps"
        sure = int((frequency[original.keep] == 1).sum())
        title = f"{sure} of the {original.count} {unit}s that {who} are in every choice"
        framed = f"Framed: those that {who}. "
        data["framed"] = original.keep.ravel().tolist()
    display.show(
        frequency_figure(result, original, unit=unit, dark=display.is_dark()),
        title=title,
        help=f"Each cell is {display.describe_square(explorer.card)}; its number is the share of {len(result.masks)} "
        f"choices that keep it, in %. {framed}{VARIATIONS[result.axis].means}",
        name=f"survival-{result.axis}",
        data=data,
    )


def _draw_knees(result: Stability, unit: str) -> None:
    """Draw the clusters at the knee of each choice."""
    column = VARIATIONS[result.axis].column
    knees = result.knees[result.knees > 0]
    if not len(knees):
        title = "No choice has a knee"
    elif knees.min() == knees.max():
        title = f"The knee stays at {knees[0]} clusters"
    else:
        title = f"The knee moves between {knees.min()} and {knees.max()} clusters"
    if 0 < len(knees) < len(result.knees):
        title = f"{len(knees)} of {len(result.knees)} choices have a knee, at {knees.min()} to {knees.max()} clusters"
    display.show(
        knee_figure(result, column, unit=unit, dark=display.is_dark()),
        title=title,
        help="The published rule stops at the knee of the silhouette curve. Without a fixed budget, that is the "
        f"number of clusters; {unit}s added to empty layers come on top.",
        name=f"knees-{result.axis}",
        data={
            column: result.values.tolist(),
            "clusters at the knee": result.knees.tolist(),
            "heads kept": result.keep.sum(axis=(1, 2)).tolist(),
        },
    )


def _original(explorer: Explorer, budget: int | None) -> HeadMask | None:
    """Return what is chosen from all calibration texts, as the run does it: at ``budget``, or by the published rule."""
    table = explorer.table()
    if explorer.clusters is None or table is None:
        return None
    if budget:
        return table.nearest(budget).mask
    selection = explorer.clusters.suggested(explorer.settings)
    if selection is None:
        return None
    return selection.mask


def _draw_choices(explorer: Explorer, result: Stability) -> None:
    """Draw what the choice of each resample changes in the predictions, once it is measured."""
    bench = explorer.bench
    column = VARIATIONS[result.axis].column
    st.subheader("Do the different choices change the predictions alike?")
    if explorer.work.job(CHOICES, (bench, result)) is None:
        st.caption(
            f"Evaluates {len(result.masks)} choices, as pruned, on {bench.evaluation.measured}. Results are stored on "
            "this machine and reused."
        )
    outcomes = job_card(explorer, CHOICES, (bench, result), name="stability-choices", offer="Evaluate each choice")
    if outcomes is None:
        return
    noun = bench.evaluation.units
    divergences = [measured["kl"] for measured in outcomes]
    places = result.values[result.keep.any(axis=(1, 2))].tolist()
    data = {column: places}
    for row in HEADLINES:
        if row.name in outcomes[0]:
            data[row.row_label] = [measured[row.name].value for measured in outcomes]
    display.show(
        divergence_figure(places, divergences, column, dark=display.is_dark()),
        title=describe_choices(divergences, noun),
        help="Each point is the KL divergence from the full model where only the heads of one choice are kept, "
        f"as pruned, with its 95 % interval over {noun}. Different choices that cost alike are equally good.",
        name=f"choices-{result.axis}",
        data=data,
    )


def describe_choices(divergences: list[Estimate], noun: str = "texts") -> str:
    """Return the range of the KL divergences of choices, each measured on the same texts."""
    best = min(divergences, key=lambda divergence: divergence.value)
    worst = max(divergences, key=lambda divergence: divergence.value)
    alike = "their intervals do not overlap"
    if worst.low <= best.high:
        alike = "their intervals overlap"
    return (
        f"{len(divergences)} choices cost {best.text} ({best.span}) to {worst.text} nats ({worst.span}): {alike}, "
        f"n = {best.n:,} {noun}"
    )


def describe_resamples(result: Stability, requested: int) -> str:
    """Return how many resamples were used and why others were not."""
    count = len(result.values)
    left_out = count - len(result.masks)
    if not result.drawn:
        sentence = f"All {count} degrees, not a random sample: no interval"
    else:
        sentence = f"{len(result.masks)} resamples"
        if count < requested:
            sentence += f" (of {requested} requested; these texts have only {count} different halves)"
    if left_out == 1:
        sentence += "; 1 without a knee is left out"
    elif left_out:
        sentence += f"; {left_out} without a knee are left out"
    return f"{sentence}."


def state_verdict(result: Stability, unit: str = "head") -> str:
    """Return what the overlap means."""
    for least, verdict, kept in (
        (0.8, "Stable", f"nearly the same {unit}s"),
        (0.5, "Fairly stable", f"most of the same {unit}s"),
        (0.2, "Unstable", f"some of the same {unit}s and many others"),
    ):
        if result.beyond_chance >= least:
            return f"{verdict}: another {result.axis} keeps {kept}."
    return f"Hardly better than random selection: another {result.axis} keeps mostly other {unit}s."


def state_number(result: Stability) -> str:
    """Return what the spread of the knees means, as a sentence to follow the verdict; empty without any knee."""
    knees = result.knees[result.knees > 0]
    if not len(knees):
        return ""
    low = int(knees.min())
    high = int(knees.max())
    ratio = high / low
    if len(knees) < len(result.knees):
        # A resample without a knee says that the number varies at least.
        ratio = max(ratio, _VARYING)
    if ratio <= _STABLE:
        verdict = "is stable"
    elif ratio <= _VARYING:
        verdict = "varies"
    else:
        verdict = "is unstable"
    reach = str(low)
    if low < high:
        reach = f"{low} to {high}"
    some = ""
    if len(knees) < len(result.knees):
        some = f" in {len(knees)} of {len(result.knees)} choices, and nowhere in the others"
    return f" Their number {verdict}: the rule stops at {reach} clusters{some}."
