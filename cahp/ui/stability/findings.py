"""The result of resampling: how often each head is kept, and how much the choice varies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st

from cahp.figures.stability import frequency_figure, knee_figure, overlap_figure
from cahp.studies.stability import Axis, Stability
from cahp.ui.parts import display
from cahp.ui.session.explorer import Explorer
from cahp.values import HeadMask
from cahp.words import span


@dataclass(frozen=True)
class Variation:
    """A quantity that resampling varies, and its descriptions."""

    label: str
    means: str
    one: str
    column: str


# The first needs no computation, so the page opens with a result.
VARIATIONS: dict[Axis, Variation] = {
    "degree": Variation(
        "Other degrees",
        "Only the degree of the polynomial that smooths the silhouette curve varies, and with it the knee.",
        "degree",
        "degree of the polynomial",
    ),
    "seed": Variation(
        "Other seeds",
        "Only the random seed of the projection and the clustering varies.",
        "seed",
        "seed of the projection",
    ),
    "sample": Variation(
        "Other texts",
        "Each resample uses a random half of the calibration texts, five of ten stratified parts whose statistics "
        "merge exactly. Halves vary about as much as new samples of full size.",
        "sample",
        "number of the sample",
    ),
}

_OVERLAP = (
    r"J(A,B)=\frac{|A\cap B|}{|A\cup B|},\qquad \mathbb{E}[J]=\sum_i P(i)\,\frac{i}{a+b-i},\quad "
    r"P=\text{hypergeometric}(N,a,b)"
)


def draw(explorer: Explorer, result: Stability, *, asked: int) -> None:
    """Draw how often each head is kept, the knees, and the overlap of resamples, of which ``asked`` were requested."""
    mask, dark, variation = explorer.mask, display.is_dark(), VARIATIONS[result.axis]
    found = len(result.found)
    if found < 2:
        st.warning(
            "Fewer than two resamples have a knee in the silhouette curve. Choose a fixed number of heads instead."
        )
        return
    st.subheader(verdict(result))
    st.caption(used(result, asked))
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
        help="The number of clusters that the silhouette curve suggests.",
    )
    whole = result.overlap_ci95
    overlap.caption("" if whole is None else f"{span(*whole, 2)} (95 % interval), n = {found} resamples")
    for column, times in ((always, found), (never, 0)):
        ends = result.share_ci95(times)
        if ends is not None:
            low, high = ends
            column.caption(
                f"n = {found}: such a head is kept in {span(100 * low, 100 * high, 0)} % of resamples (95 % interval)"
            )
    moved.caption(f"n = {len(seen)}")
    left, right = st.columns([3, 2], gap="medium")
    with left:
        display.show(
            frequency_figure(result, mask, dark=dark),
            title=_trusted(result, mask, explorer.results.run is not None),
            help=(
                f"Each cell is a head; its number is the share of {found} resamples that kept it, in %. Framed cells "
                f"are kept on the board now. {variation.means}"
            ),
            name=f"survival-{result.axis}",
            data={
                "layer": np.repeat(np.arange(mask.layers), mask.heads).tolist(),
                "head": np.tile(np.arange(mask.heads), mask.layers).tolist(),
                "share of resamples": frequency.ravel().round(4).tolist(),
                "kept now": mask.keep.ravel().tolist(),
            },
        )
    with right:
        display.show(
            knee_figure(result, variation.column, dark=dark),
            title=_knees(result),
            help=(
                "Beyond the knee of the silhouette curve, more clusters add little. Without a fixed budget, the knee "
                "sets the number of clusters; heads added to empty layers come on top."
            ),
            name=f"knees-{result.axis}",
            data={
                variation.column: result.values.tolist(),
                "clusters at the knee": result.knees.tolist(),
                "heads kept": result.keep.sum(axis=(1, 2)).tolist(),
            },
        )
    display.show(
        overlap_figure(result, dark=dark),
        title=(f"Two resamples share {result.overlap:.0%} of their heads; random choices share {result.chance:.0%}"),
        help=(
            f"Each point is a pair of resamples ({len(result.overlaps)} pairs of {found}, not independent); its height "
            "has no meaning. The dashed line is the expected overlap of two random sets of the same sizes, ignoring "
            "the minimum per layer."
        ),
        formula=_OVERLAP,
        name=f"overlap-{result.axis}",
        data={"overlap (Jaccard index)": result.overlaps.round(4).tolist()},
    )


def used(result: Stability, asked: int) -> str:
    """Return how many resamples were used and why others were not."""
    found, made = len(result.found), len(result.values)
    if not result.drawn:
        said = f"All {made} degrees, not a random sample: no interval"
    else:
        said = f"{found} resamples"
        if made < asked:
            said += f" (of {asked} requested; these texts have only {made} different halves)"
    left_out = made - found
    return f"{said}; {left_out} without a knee {'is' if left_out == 1 else 'are'} left out." if left_out else f"{said}."


def verdict(result: Stability) -> str:
    """Return what the overlap means."""
    share, axis = result.beyond_chance, VARIATIONS[result.axis].one
    if share >= 0.8:
        return f"Stable: another {axis} keeps nearly the same heads."
    if share >= 0.5:
        return f"Fairly stable: another {axis} keeps most of the same heads."
    if share >= 0.2:
        return f"Unstable: another {axis} keeps some of the same heads and many others."
    return f"Hardly better than chance: another {axis} keeps mostly other heads."


def _trusted(result: Stability, mask: HeadMask, measured: bool) -> str:
    frequency = result.frequency
    if measured:
        sure = int((frequency[mask.keep] == 1).sum())
        return f"Of the {mask.count} heads kept now, {sure} are kept in every resample"
    return f"{int((frequency == 1).sum())} heads are kept in every resample"


def _knees(result: Stability) -> str:
    seen = result.knees[result.knees > 0]
    if not len(seen):
        return "No resample has a knee"
    if seen.min() == seen.max():
        return f"The knee stays at {seen[0]} clusters"
    return f"The knee moves between {seen.min()} and {seen.max()} clusters"
