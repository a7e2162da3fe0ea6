"""Stability: how often each head is kept over seeds, samples and degrees, and how much the choice varies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import streamlit as st

from cahp.figures.head_grid import places
from cahp.figures.stability import divergence_figure, frequency_figure, knee_figure
from cahp.outcomes import HEADLINES
from cahp.studies.stability import Axis, Stability, cached, measure_choices, over_degrees, stability
from cahp.ui.frame import knee
from cahp.ui.frame.running import follow, offer_again
from cahp.ui.parts import display
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import pass_seconds
from cahp.values import Estimate, Progress
from cahp.words import duration, span

T = TypeVar("T")


@dataclass(frozen=True)
class Variation:
    """A quantity that resampling varies, and its descriptions."""

    label: str
    means: str
    column: str


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
        "This page changes one of them, repeats the choice, and counts how often each head is kept."
    )
    axis, resamples, budget = _draw_form(explorer)
    result = _resample(explorer, axis, resamples, budget)
    if result is not None:
        _draw_result(explorer, result, requested=resamples)
    if explorer.clusters is not None:
        st.subheader("Is the number of heads a property of the data?")
        knee.draw(explorer, place="stability")


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
    with often:
        resamples = st.select_slider(
            "Resamples",
            [6, 12, 20, 30],
            12,
            key="stability-resamples",
            persist_state="session",
            disabled=axis == "degree",
            help="More resamples give narrower intervals: with 12, a head kept half of the time shows 25 to 75 %.",
        )
    with how_many:
        by_rule, fixed = "published rule", f"always {explorer.board.budget}"
        heads = st.segmented_control(
            "Heads to keep",
            [by_rule, fixed],
            default=by_rule,
            required=True,
            key=f"stability-budget-{explorer.board.budget}",
            disabled=axis == "degree",
            help="With a fixed number, only which heads are chosen can vary, not how many.",
        )
    return axis, int(resamples), explorer.board.budget if axis != "degree" and heads == fixed else None


def _resample(explorer: Explorer, axis: Axis, resamples: int, budget: int | None) -> Stability | None:
    """Return the resamples; None until they are asked for and computed."""
    bench, settings = explorer.bench, explorer.settings
    if axis == "degree" and explorer.clusters is not None:
        return over_degrees(explorer.clusters.clustering, explorer.clusters.salience, settings)
    return _compute(
        explorer,
        (bench.card.sha256, bench.calibration.sha256, str(settings), axis, resamples, budget),
        lambda progress: stability(bench, axis=axis, resamples=resamples, budget=budget, progress=progress),
        stored=lambda: cached(bench, axis=axis, resamples=resamples, budget=budget),
        key="stability",
        button="Resample",
        cost=_describe_cost(explorer, axis, resamples),
    )


def _compute(
    explorer: Explorer,
    name: tuple[Any, ...],
    work: Callable[[Progress], T],
    *,
    stored: Callable[[], T | None] = lambda: None,
    key: str,
    button: str,
    cost: str,
    main: bool = True,
) -> T | None:
    """Return the ``stored`` result of ``work``, called ``name``, or a new one; None until that is computed."""
    memory: dict[tuple[Any, ...], jobs.Job[T]] = st.session_state.setdefault(f"{key}-memory", {})
    job = memory.get(name)
    if job is None:
        before = stored()
        if before is not None:
            return before
        if st.button(button, type="primary" if main else "secondary", key=f"{key}-start"):
            memory[name] = jobs.submit(explorer.id, f"{key}-{hash(name)}", work)
            memory[name].wait(0.7)
            st.rerun()
        st.caption(cost)
        return None
    if not job.ended:
        follow(job, place=key)
    elif job.result is None:
        stopped = "Stopped. What was computed is kept, so the next run is faster."
        offer_again(job, lambda: memory.pop(name), key=f"{key}-again", stopped=stopped)
    return job.result


def _describe_cost(explorer: Explorer, axis: Axis, resamples: int) -> str:
    read, compute = (
        f"calibration sample ({explorer.bench.calibration.measured})",
        f"{resamples} projections and clusterings",
    )
    costs = {
        "degree": f"Reads the {read} once.",
        "seed": f"Computes {compute}, without reading a text again after a run on this machine.",
        "sample": f"Reads the {read} once, then computes {compute}.",
    }
    return f"{costs[axis]} Results are stored on this machine and reused."


# The result --------------------------------------------------------------------------------------------------


def _draw_result(explorer: Explorer, result: Stability, *, requested: int) -> None:
    """Draw the overlap of resamples, how often each head is kept, and the knees."""
    mask, dark, variation = explorer.mask, display.is_dark(), VARIATIONS[result.axis]
    found = len(result.found)
    if found < 2:
        st.warning(
            "Fewer than two resamples have a knee in the silhouette curve. Choose a fixed number of heads instead."
        )
        return
    st.subheader(state_verdict(result))
    st.caption(describe_resamples(result, requested))
    with st.container(key="stability-figures"):
        overlap, always, never, moved = st.columns(4)
    overlap.metric(
        "Overlap of two resamples",
        f"{result.overlap:.2f}",
        f"{result.chance:.2f} by chance",
        delta_color="off",
        delta_arrow="off",
        help="Mean Jaccard index over all pairs of resamples: the heads that both keep, as a share of those that at "
        "least one keeps. By chance: two random sets of the same sizes.",
    )
    frequency = result.frequency
    total = frequency.size
    always.metric("Always kept", f"{int((frequency == 1).sum())} of {total}")
    never.metric("Never kept", f"{int((frequency == 0).sum())} of {total}")
    seen = result.knees[result.knees > 0]
    moved.metric(
        "Clusters at the knee",
        f"{seen.min()} to {seen.max()}" if len(seen) else "no knee",
        help="The number of clusters at which the published rule stops.",
    )
    if result.overlap_ci95 is not None:
        overlap.caption(f"{span(*result.overlap_ci95, 2)} (95 % interval), n = {found} resamples")
    for column, times in ((always, found), (never, 0)):
        interval = result.share_ci95(times)
        if interval is not None:
            share = span(100 * interval[0], 100 * interval[1], 0)
            column.caption(f"n = {found}: such a head is kept in {share} % of resamples (95 % interval)")
    moved.caption(f"n = {len(seen)}")
    kept_always = f"{int((frequency == 1).sum())} heads are kept in every resample"
    if explorer.results.run is not None:
        sure = int((frequency[mask.keep] == 1).sum())
        kept_always = f"Of the {mask.count} heads kept now, {sure} are kept in every resample"
    moves = "No resample has a knee"
    if len(seen):
        same = seen.min() == seen.max()
        moves = f"The knee {f'stays at {seen[0]}' if same else f'moves between {seen.min()} and {seen.max()}'} clusters"
    left, right = st.columns([3, 2], gap="medium")
    with left:
        display.show(
            frequency_figure(result, mask, dark=dark),
            title=kept_always,
            help=f"Each cell is a head; its number is the share of {found} resamples that kept it, in %. Framed cells "
            f"are kept on the board now. {variation.means}",
            name=f"survival-{result.axis}",
            data={
                **places(mask.layers, mask.heads),
                "share of resamples": frequency.ravel().round(4).tolist(),
                "kept now": mask.keep.ravel().tolist(),
            },
        )
    with right:
        display.show(
            knee_figure(result, variation.column, dark=dark),
            title=moves,
            help="The published rule stops at the knee of the silhouette curve. Without a fixed budget, that is the "
            "number of clusters; heads added to empty layers come on top.",
            name=f"knees-{result.axis}",
            data={
                variation.column: result.values.tolist(),
                "clusters at the knee": result.knees.tolist(),
                "heads kept": result.keep.sum(axis=(1, 2)).tolist(),
            },
        )
    _draw_choices(explorer, result)


def _draw_choices(explorer: Explorer, result: Stability) -> None:
    """Draw what the choice of each resample changes in the predictions, once it is measured."""
    bench, column = explorer.bench, VARIATIONS[result.axis].column
    st.subheader("Do the different choices change the predictions alike?")
    seconds = pass_seconds(bench, evaluation=len(result.found))
    outcomes = _compute(
        explorer,
        (bench.card.sha256, bench.evaluation.sha256, result.found.tobytes()),
        lambda progress: measure_choices(bench, result, progress=progress),
        key="stability-choices",
        button="Evaluate each choice",
        cost=f"Evaluates {len(result.found)} choices, without recovery, on {bench.evaluation.measured}: about "
        f"{duration(seconds)}. Results are stored on this machine and reused.",
        main=False,
    )
    if outcomes is None:
        return
    noun = bench.card.words.units
    divergences, shown = [one["kl"] for one in outcomes], [row for row in HEADLINES if row.name in outcomes[0]]
    places = result.values[result.keep.any(axis=(1, 2))].tolist()
    display.show(
        divergence_figure(places, divergences, column, dark=display.is_dark()),
        title=describe_choices(divergences, noun),
        help="Each point is the KL divergence from the full model where only the heads of one resample are kept, "
        f"without recovery, with its 95 % interval over {noun}. Different choices that cost alike are equally good.",
        name=f"choices-{result.axis}",
        data={
            column: places,
            **{row.row_label: [one[row.name].value for one in outcomes] for row in shown},
        },
    )


def describe_choices(divergences: list[Estimate], noun: str = "texts") -> str:
    """Return the range of the KL divergences of choices, each measured on the same texts."""
    best, worst = (pick(divergences, key=lambda one: one.value) for pick in (min, max))
    alike = "their intervals overlap" if worst.low <= best.high else "their intervals do not overlap"
    return (
        f"{len(divergences)} choices cost {best.text} ({best.span}) to {worst.text} nats ({worst.span}): {alike}, "
        f"n = {best.n:,} {noun}"
    )


def describe_resamples(result: Stability, requested: int) -> str:
    """Return how many resamples were used and why others were not."""
    found, made = len(result.found), len(result.values)
    if not result.drawn:
        said = f"All {made} degrees, not a random sample: no interval"
    else:
        said = f"{found} resamples"
        if made < requested:
            said += f" (of {requested} requested; these texts have only {made} different halves)"
    left_out = made - found
    return f"{said}; {left_out} without a knee {'is' if left_out == 1 else 'are'} left out." if left_out else f"{said}."


def state_verdict(result: Stability) -> str:
    """Return what the overlap means."""
    for least, verdict, heads in (
        (0.8, "Stable", "nearly the same heads"),
        (0.5, "Fairly stable", "most of the same heads"),
        (0.2, "Unstable", "some of the same heads and many others"),
    ):
        if result.beyond_chance >= least:
            return f"{verdict}: another {result.axis} keeps {heads}."
    return f"Hardly better than random selection: another {result.axis} keeps mostly other heads."
