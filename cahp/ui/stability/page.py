"""Would the choice survive another look: how often each head is kept over seeds, samples and degrees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from cahp.studies.stability import Axis, Stability, known, over_degrees, stability
from cahp.ui.frame import page as shell
from cahp.ui.frame.progress import follow
from cahp.ui.parts import chart as charts
from cahp.ui.parts import palette
from cahp.ui.parts.head_grid import share_figure
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.values import HeadMask

_OVERLAP = (
    r"J(A,B)=\frac{|A\cap B|}{|A\cup B|},\qquad \mathbb{E}[J]=\sum_i P(i)\,\frac{i}{a+b-i},\quad "
    r"P=\text{hypergeometric}(N,a,b)"
)


@dataclass(frozen=True)
class _Look:
    """What is changed from look to look, in a person's words."""

    label: str
    means: str
    one: str
    column: str


# The first costs nothing, so that there is a picture at once.
_LOOKS: dict[Axis, _Look] = {
    "degree": _Look(
        "Other degrees",
        "Only the polynomial that smooths the silhouette curve changes, and with it the bend that says how many heads "
        "to keep.",
        "degree",
        "degree of the polynomial",
    ),
    "seed": _Look(
        "Other seeds",
        "The projection and the clustering start from another random number; texts and all else stay.",
        "seed",
        "seed of the projection",
    ),
    "sample": _Look(
        "Other texts",
        "Each look sees another random half of the selection texts, put together from ten stratified parts whose "
        "statistics merge exactly. Halves vary about as much as whole samples drawn anew.",
        "sample",
        "number of the sample",
    ),
}


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    st.title("Would it survive another look?")
    st.markdown(
        "Choosing heads involves chance: a random projection, a sample of texts, and one dial. Here the choice is "
        "repeated with one of them changed. Heads that are kept every time can be trusted; the others could have been "
        "others."
    )
    axis, looks, budget = _asked(explorer)
    result = _result(explorer, axis, looks, budget)
    if result is not None:
        _show(explorer, result, budget)


def _asked(explorer: Explorer) -> tuple[Axis, int, int | None]:
    """What to repeat, how often, and how many heads to keep each time."""
    what, often, how_many = st.columns([12, 5, 8], vertical_alignment="top", gap="medium")
    with what:
        axis: Axis = (
            st.segmented_control(
                "What changes from look to look",
                list(_LOOKS),
                default="degree",
                required=True,
                format_func=lambda axis: _LOOKS[axis].label,
                key="stability-axis",
                persist_state="session",
            )
            or "degree"
        )
        st.caption(_LOOKS[axis].means)
    with often:
        looks = st.select_slider(
            "Looks",
            [6, 12, 20, 30],
            12,
            key="stability-looks",
            persist_state="session",
            disabled=axis == "degree",
            help="More looks tell the shares more finely: with 12, a head kept half of the time shows 25 to 75 %.",
        )
    with how_many:
        fixed = st.segmented_control(
            "Heads kept each time",
            ["by the knee", f"{explorer.budget}, as now"],
            default="by the knee",
            required=True,
            key=f"stability-budget-{explorer.budget}",
            disabled=axis == "degree",
            help="A fixed number separates which heads are chosen from how many.",
        )
    return axis, int(looks), explorer.budget if axis != "degree" and fixed != "by the knee" else None


def _result(explorer: Explorer, axis: Axis, looks: int, budget: int | None) -> Stability | None:
    """The looks, or None while they are taken, or where nobody has asked for them yet."""
    bench, settings = explorer.bench, explorer.settings
    if axis == "degree" and explorer.evidence is not None:
        return over_degrees(explorer.evidence.clustering, explorer.evidence.salience, settings)
    name = (bench.card.sha256, bench.calibration.sha256, str(settings), axis, looks, budget)
    memory: dict[tuple[Any, ...], jobs.Job[Stability]] = st.session_state.setdefault("stability-memory", {})
    job = memory.get(name)
    if job is None:
        before = known(bench, axis=axis, looks=looks, budget=budget)
        if before is not None:
            return before
        if st.button("Look again", type="primary", key="stability-start"):
            memory[name] = jobs.submit(
                explorer.id,
                f"stability-{axis}-{looks}-{budget}-{hash(name)}",
                lambda progress: stability(bench, axis=axis, looks=looks, budget=budget, progress=progress),
            )
            memory[name].wait(0.7)
            st.rerun()
        st.caption(_cost(explorer, axis, looks))
        return None
    if not job.ended:
        follow(job, place="stability")
        return None
    if job.result is None:
        if job.error is not None:
            shell.problem(job.error)
        else:
            st.info("Stopped. What was found so far about the texts is kept, so another try goes faster.")
        if st.button("Try again", key="stability-again"):
            del memory[name]
            st.rerun()
    return job.result


def _cost(explorer: Explorer, axis: Axis, looks: int) -> str:
    texts = len(explorer.bench.calibration)
    again = "What is known already is found again at once; results are kept on this machine."
    if axis == "degree":
        return f"Reads the {texts:,} selection texts once. {again}"
    if axis == "seed":
        return f"Takes {looks} projections and clusterings, no text is read again once a run was measured here. {again}"
    return f"Reads the {texts:,} selection texts once, then takes {looks} projections and clusterings. {again}"


# What came of it ---------------------------------------------------------------------------------------------


def _show(explorer: Explorer, result: Stability, budget: int | None) -> None:
    mask, dark, look = explorer.mask, palette.dark(), _LOOKS[result.axis]
    found = len(result.found)
    if found < 2:
        st.warning(
            "Fewer than two looks led to a choice: the silhouette curve has no bend. Fix the number of heads instead."
        )
        return
    st.subheader(verdict(result))
    overlap, always, never, moved = st.columns(4)
    overlap.metric(
        "Overlap of two looks",
        f"{result.overlap:.2f}",
        f"{result.chance:.2f} by chance",
        delta_color="off",
        delta_arrow="off",
        help="Mean Jaccard index of every pair of looks: heads that both keep, of those that at least one keeps. By "
        "chance: two random sets of the same sizes.",
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
    if found < len(result.values):
        st.caption(f"{len(result.values) - found} of {len(result.values)} looks found no bend and are left out.")
    left, right = st.columns([3, 2], gap="medium")
    with left:
        charts.show(
            frequency_figure(result, mask, dark=dark),
            title=_trusted(result, mask, explorer.run is not None),
            help=(
                f"Each cell is a head, the number the share of {found} looks that kept it, in per cent. Framed cells "
                f"are the heads on the board now. {look.means}"
            ),
            name=f"survival-{result.axis}",
            data={
                "layer": np.repeat(np.arange(mask.layers), mask.heads).tolist(),
                "head": np.tile(np.arange(mask.heads), mask.layers).tolist(),
                "share of looks": frequency.ravel().round(4).tolist(),
                "kept now": mask.keep.ravel().tolist(),
            },
        )
    with right:
        charts.show(
            knee_figure(result, look.column, dark=dark),
            title=_knees(result),
            help=(
                "The knee is where more clusters stop paying on the silhouette curve. Without a fixed budget it says "
                "how many clusters there are; heads given back to layers left empty come on top."
            ),
            name=f"knees-{result.axis}",
            data={
                look.column: result.values.tolist(),
                "clusters at the knee": result.knees.tolist(),
                "heads kept": result.keep.sum(axis=(1, 2)).tolist(),
            },
        )
    charts.show(
        overlap_figure(result, dark=dark),
        title=f"Two looks share {result.overlap:.0%} of their heads; random choices would share {result.chance:.0%}",
        help=(
            f"Every point is a pair of looks ({len(result.overlaps)} pairs of {found} looks, not independent); its "
            "height means nothing. The dashed line is what two random sets of the same sizes share on average, "
            "exactly, without regard to the floor of each layer."
        ),
        formula=_OVERLAP,
        name=f"overlap-{result.axis}",
        data={"overlap (Jaccard index)": result.overlaps.round(4).tolist()},
    )


def verdict(result: Stability) -> str:
    """What the overlap means, in plain words."""
    share, axis = result.beyond_chance, _LOOKS[result.axis].one
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
        return f"Of the {mask.count} heads kept now, {sure} are kept in every look"
    return f"{int((frequency == 1).sum())} heads are kept in every look"


def _knees(result: Stability) -> str:
    seen = result.knees[result.knees > 0]
    if not len(seen):
        return "No look found a bend"
    if seen.min() == seen.max():
        return f"The knee stays at {seen[0]} clusters"
    return f"The knee moves between {seen.min()} and {seen.max()} clusters"


def frequency_figure(result: Stability, mask: HeadMask, *, dark: bool) -> Any:
    """How often each head was kept: layers by heads, with the heads kept now framed."""
    heads = result.frequency.shape[1]
    return share_figure(
        result.frequency,
        # A frame around everything says nothing.
        framed=[divmod(head, heads) for head in mask.flat] if mask.count < mask.keep.size else (),
        scale="looks that keep it (%)",
        said="kept in %{z:.0f} % of the looks",
        # The scale beside it needs room too.
        width=450,
        dark=dark,
    )


def knee_figure(result: Stability, column: str, *, dark: bool) -> Any:
    """Clusters at the knee and heads kept, look by look."""
    import plotly.graph_objects as go

    colours = palette.ink(dark=dark)
    kept = result.keep.sum(axis=(1, 2))
    figure = go.Figure()
    lines: tuple[tuple[str, Sequence[int], str, str], ...] = (
        ("heads kept", kept.tolist(), "square-open", colours.text),
        ("clusters at the knee", result.knees.tolist(), "circle", colours.accent),
    )
    for name, values, symbol, colour in lines:
        figure.add_trace(
            go.Scatter(
                x=[str(value) for value in result.values],
                y=[value or None for value in values],
                mode="lines+markers" if result.axis == "degree" else "markers",
                name=name,
                marker={"symbol": symbol, "size": 10, "color": colour, "line": {"width": 1.5}},
                line={"color": colour, "width": 1},
                hovertemplate=f"%{{x}}<br>{name}: %{{y}}<extra></extra>",
            )
        )
    figure.update_layout(
        xaxis={"title": {"text": column}, "type": "category"},
        yaxis={"title": {"text": "heads"}, "rangemode": "tozero"},
        height=330,
        margin={"l": 50, "r": 10, "t": 34, "b": 46},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )
    return figure


def overlap_figure(result: Stability, *, dark: bool) -> Any:
    """The overlap of every pair of looks, against chance."""
    import plotly.graph_objects as go

    colours = palette.ink(dark=dark)
    # Spread evenly upwards, so that equal overlaps do not hide each other; the height means nothing.
    height = np.argsort(np.argsort(result.overlaps, kind="stable")) * 0.618 % 1
    figure = go.Figure(
        go.Scatter(
            x=result.overlaps,
            y=height,
            mode="markers",
            marker={"size": 8, "color": colours.accent, "opacity": 0.7},
            hovertemplate="two looks share %{x:.0%}<extra></extra>",
        )
    )
    for value, name, dash in ((result.chance, "chance", "dash"), (result.overlap, "mean", "solid")):
        figure.add_vline(
            x=value,
            line={"color": colours.text, "width": 1.5, "dash": dash},
            annotation={"text": f"{name} {value:.2f}", "font": {"color": colours.text}, "yanchor": "bottom", "y": 1},
        )
    figure.update_layout(
        xaxis={"title": {"text": "overlap of two looks (Jaccard index, 0..1)"}, "range": [-0.02, 1.04]},
        yaxis={"visible": False, "range": [-0.1, 1.1]},
        height=190,
        margin={"l": 20, "r": 10, "t": 30, "b": 46},
        showlegend=False,
    )
    return figure
