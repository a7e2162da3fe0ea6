"""What came of the resamples: which heads can be trusted, and how far the choice moves."""

from __future__ import annotations

import numpy as np
import streamlit as st

from cahp.figures.stability import frequency_figure, knee_figure, overlap_figure
from cahp.studies.stability import Stability
from cahp.ui.parts import display
from cahp.ui.session.explorer import Explorer
from cahp.ui.stability.variations import VARIATIONS
from cahp.values import HeadMask
from cahp.words import span

_OVERLAP = (
    r"J(A,B)=\frac{|A\cap B|}{|A\cup B|},\qquad \mathbb{E}[J]=\sum_i P(i)\,\frac{i}{a+b-i},\quad "
    r"P=\text{hypergeometric}(N,a,b)"
)


def draw(explorer: Explorer, result: Stability, *, asked: int) -> None:
    """Draw how often each head was kept, where the knees were, and what resamples have in common.

    ``asked`` is how many resamples a person wanted.
    """
    mask, dark, variation = explorer.mask, display.is_dark(), VARIATIONS[result.axis]
    found = len(result.found)
    if found < 2:
        st.warning(
            "Fewer than two resamples led to a choice: the silhouette curve has no knee. Fix the number of heads "
            "instead."
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
        help="Mean Jaccard index of every pair of resamples: heads that both keep, of those that at least one keeps. "
        "By chance: two random sets of the same sizes.",
    )
    frequency = result.frequency
    total = frequency.size
    always.metric("Kept every time", f"{int((frequency == 1).sum())} of {total}")
    never.metric("Never kept", f"{int((frequency == 0).sum())} of {total}")
    seen = result.knees[result.knees > 0]
    moved.metric(
        "Clusters at the knee",
        f"{seen.min()} to {seen.max()}" if len(seen) else "no knee",
        help="How many clusters the curve suggests.",
    )
    whole = result.overlap_ci95
    overlap.caption("" if whole is None else f"{span(*whole, 2)} (95 % interval), n = {found} resamples")
    for column, times in ((always, found), (never, 0)):
        ends = result.share_ci95(times)
        if ends is not None:
            low, high = ends
            column.caption(
                f"n = {found}: such a head is kept in {span(100 * low, 100 * high, 0)} % of all resamples "
                "(95 % interval)"
            )
    moved.caption(f"n = {len(seen)}")
    left, right = st.columns([3, 2], gap="medium")
    with left:
        display.show(
            frequency_figure(result, mask, dark=dark),
            title=_trusted(result, mask, explorer.results.run is not None),
            help=(
                f"Each cell is a head, the number the share of {found} resamples that kept it, in per cent. Framed "
                f"cells are the heads on the board now. {variation.means}"
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
                "The knee is where more clusters stop paying on the silhouette curve. Without a fixed budget it says "
                "how many clusters there are; heads given back to layers left empty come on top."
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
        title=(
            f"Two resamples share {result.overlap:.0%} of their heads; random choices would share {result.chance:.0%}"
        ),
        help=(
            f"Every point is a pair of resamples ({len(result.overlaps)} pairs of {found}, not independent); its "
            "height means nothing. The dashed line is what two random sets of the same sizes share on average, "
            "exactly, without regard to the floor of each layer."
        ),
        formula=_OVERLAP,
        name=f"overlap-{result.axis}",
        data={"overlap (Jaccard index)": result.overlaps.round(4).tolist()},
    )


def used(result: Stability, asked: int) -> str:
    """How many resamples the figures are of, and what became of the others."""
    found, made = len(result.found), len(result.values)
    if not result.drawn:
        said = f"All {made} degrees, none drawn by chance: there is no interval"
    else:
        said = f"{found} resamples are counted"
        if made < asked:
            said += f"; {asked} were asked for, but these texts make only {made} different halves"
    left_out = made - found
    return (
        f"{said}; {left_out} found no knee and {'is' if left_out == 1 else 'are'} left out." if left_out else f"{said}."
    )


def verdict(result: Stability) -> str:
    """What the overlap means, in plain words."""
    share, axis = result.beyond_chance, VARIATIONS[result.axis].one
    if share >= 0.8:
        return f"Stable: another {axis} would keep nearly the same heads."
    if share >= 0.5:
        return f"Fairly stable: another {axis} would keep most of the same heads, not all."
    if share >= 0.2:
        return f"Shaky: another {axis} would keep some of the same heads and many others."
    return f"Hardly better than chance: another {axis} would keep mostly other heads."


def _trusted(result: Stability, mask: HeadMask, measured: bool) -> str:
    frequency = result.frequency
    if measured:
        sure = int((frequency[mask.keep] == 1).sum())
        return f"Of the {mask.count} heads kept now, {sure} are kept in every resample"
    return f"{int((frequency == 1).sum())} heads are kept in every resample"


def _knees(result: Stability) -> str:
    seen = result.knees[result.knees > 0]
    if not len(seen):
        return "No resample found a knee"
    if seen.min() == seen.max():
        return f"The knee stays at {seen[0]} clusters"
    return f"The knee moves between {seen.min()} and {seen.max()} clusters"
