"""One head's attention over the tokens of a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cahp.figures.labels import label
from cahp.figures.palette import ink
from cahp.values import Floats


def attention_figure(
    tokens: Sequence[str],
    weights: Floats,
    *,
    dark: bool = False,
    height: int = 420,
    top: float | None = None,
    ticks: int = 40,
) -> Any:
    """One head's attention ``weights (S, S)`` over ``tokens``: rows look, columns are looked at.

    ``top`` is the weight that gets the strongest colour (by default the largest), so that several maps can share it.
    At most ``ticks`` tokens are written along each side; the others are named when pointed at.
    """
    import plotly.graph_objects as go

    words = [label(token, limit=14) for token in tokens]
    # Categories must differ, or equal words would fall onto one line.
    places = [f"{place}: {word}" for place, word in enumerate(words)]
    step = max(1, -(-len(words) // ticks))
    axis = {
        "tickvals": list(range(0, len(words), step)),
        "ticktext": words[::step],
        "type": "category",
        "tickfont": {"size": 11 if len(words) <= 24 else 9},
        "showgrid": False,
        "constrain": "domain",
    }
    figure = go.Figure(
        go.Heatmap(
            z=np.asarray(weights, dtype=np.float32).round(4),
            x=places,
            y=places,
            zmin=0,
            zmax=float(top if top is not None else weights.max()) or 1.0,
            # Squared stops: special tokens draw most attention, and the rest must not drown beside them.
            colorscale=[[stop**2, colour] for stop, colour in ink(dark=dark).scale],
            colorbar={"title": {"text": "attention (0..1)", "side": "right"}, "thickness": 10, "len": 0.9},
            hovertemplate="%{y}<br>looks at %{x}<br>with %{z:.3f} of its attention<extra></extra>",
            xgap=1 if len(words) <= 32 else 0,
            ygap=1 if len(words) <= 32 else 0,
        )
    )
    figure.update_layout(
        xaxis={**axis, "title": {"text": "token looked at"}, "side": "bottom", "tickangle": -50},
        yaxis={**axis, "title": {"text": "token that looks"}, "autorange": "reversed"},
        height=height,
        margin={"l": 70, "r": 10, "t": 10, "b": 80},
    )
    return figure
