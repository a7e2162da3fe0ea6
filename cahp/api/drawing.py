"""Figures for Python: named, titled, and refused in one sentence where they cannot be drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from typing import Any

from cahp.figures.labels import label
from cahp.values import OptionError

#: Pixels that a title takes.
_TITLE = 34


def check(name: str, names: Iterable[str]) -> None:
    """Check that there is a figure of this name, and what draws it.

    Raises:
        OptionError: If not, with the names that there are or what to install.
    """
    known = tuple(names)
    if name not in known:
        raise OptionError(f"there is no figure {name!r}; choose one of {', '.join(known)}")
    if find_spec("plotly") is None:
        raise OptionError('figures are drawn with plotly; install it with pip install "cahp-explorer[notebook]"')


def titled(figure: Any, title: str, *, dark: bool) -> Any:
    """The figure of a page, with the title that stands above it there."""
    top = (figure.layout.margin.t or 0) + _TITLE
    figure.update_layout(
        template="plotly_dark" if dark else "plotly_white",
        title={
            "text": label(title, limit=160),
            "x": 0.01,
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 8},
        },
        margin={"t": top},
        height=None if figure.layout.height is None else figure.layout.height + _TITLE,
    )
    return figure


def shown(draw: Callable[[], Any], text: str) -> Mapping[str, Any]:
    """How a notebook shows a figure, with ``text`` where no figures can be shown or drawn."""
    if find_spec("plotly") is None:
        return {"text/plain": text}
    return {**draw()._repr_mimebundle_(), "text/plain": text}
