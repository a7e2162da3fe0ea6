"""Changes between two of several texts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import streamlit as st

from cahp.figures import similarity as figures
from cahp.figures.head_grid import head_name
from cahp.stages.similarity import agreement, largest_changes, uncovered_communities
from cahp.ui.parts import display
from cahp.ui.session.explorer import Explorer
from cahp.ui.similarity.comparing import FORMULA, HOW, Seen


def draw(explorer: Explorer, seen: Sequence[Seen]) -> None:
    """Draw the changes between two of the texts."""
    st.header("Changes between the texts")
    pairs = list(combinations(range(len(seen)), 2))
    chosen = pairs[0]
    if len(pairs) > 1:
        place = st.segmented_control(
            "Texts",
            range(len(pairs)),
            default=0,
            required=True,
            format_func=lambda place: f"{pairs[place][0] + 1} and {pairs[place][1] + 1}",
            key=f"similarity-of-{len(seen)}",
        )
        chosen = pairs[place or 0]
    one, other = (seen[place] for place in chosen)
    names = (f"Text {chosen[0] + 1}", f"Text {chosen[1] + 1}")
    heads, groups = explorer.card.heads, (one.graph().communities, other.graph().communities)
    moved = np.abs(one.distances - other.distances)[np.triu_indices(len(one.distances), 1)]
    same, change, missing = st.columns(3)
    same.metric(
        "Agreement of the communities",
        f"{agreement(*groups):.2f}",
        help="Adjusted Rand index, each text at its default threshold: 1 the same groups, 0 as for random groups.",
    )
    change.metric("Mean change of a distance", f"{moved.mean() if len(moved) else 0:.2f}", help="Over all pairs, 0..1.")
    if explorer.results.run is not None:
        missing.metric(
            "Communities without a kept head",
            " and ".join(str(len(uncovered_communities(group, explorer.mask))) for group in groups),
            help=f"On {names[0]} and on {names[1]}.",
        )
    found = largest_changes(one.distances, other.distances, count=12)
    picture, finding = figures.dumbbells(found, names, heads=heads, dark=display.is_dark())
    display.show(
        picture,
        title=finding,
        help="The pairs of heads whose distance differs most between the two texts: the circle is the first text, the "
        f"square the second. {HOW}",
        formula=FORMULA,
        name="changes",
        data={
            "first head": [head_name(pair.first, heads) for pair in found],
            "second head": [head_name(pair.second, heads) for pair in found],
            names[0]: [round(pair.before, 4) for pair in found],
            names[1]: [round(pair.after, 4) for pair in found],
        },
    )
