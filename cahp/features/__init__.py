"""Features, each in a room of its own, and the one table of them.

A room holds all that one feature needs: what it measures, its section of a run, its figure, panel or page, and
its words. The core knows none of them; the front doors (``api``, ``cli``, ``ui``) read this table. Rooms do not
know each other. A new feature is a folder here and a row of ``FEATURES``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cahp.comparison import ComparisonDocument
    from cahp.run import Measure
    from cahp.show import Claim
    from cahp.ui.frame import BoardColouring, FirstText, Panel


#: Find a part once: every page asks for those of all features.
_resolve = cache(resolve_name)


def _find(*names: str) -> Callable[[], Sequence[Any]]:
    """Return a function that imports parts of rooms, each named ``room.module:NAME``, when they are first used."""
    return lambda: [_resolve(f"{__name__}.{name}") for name in names]


_NOTHING = _find()

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Feature:
    """The parts of one feature by seam. Each is imported when it is first used.

    ``measures`` are what is measured of a mask, with all their doors, ``panels`` the names of tabs by page (see
    ``Panel``), ``experiments`` find what was measured once of the model of a comparison (None: it does not apply),
    ``colourings`` are those of the board, and ``first_texts`` the lines for a person's text on the first screen. Pages
    are scripts in ``pages/``.
    """

    name: str
    measures: Callable[[], Sequence[Measure[Any]]] = _NOTHING
    panels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    experiments: Callable[[], Sequence[Callable[[ComparisonDocument], Claim | None]]] = _NOTHING
    colourings: Callable[[], Sequence[BoardColouring[Any]]] = _NOTHING
    first_texts: Callable[[], Sequence[FirstText]] = _NOTHING


#: All features, in the order of their commands and sections.
FEATURES = (
    Feature(
        "findings",
        experiments=_find("findings:find_premise", "findings:find_peers"),
        panels={"Budget note": ("findings:NOTE",)},
    ),
    Feature(
        "roles",
        measures=_find("roles.section:ROLES_OF_HEADS"),
        panels={
            "Budget": ("roles.panel:TAB",),
            "Similarity": ("roles.panel:ONE_HEAD",),
            "Card": ("roles.panel:HEADLINE",),
        },
        colourings=_find("roles.panel:ATTENTION", "roles.panel:ROLE"),
    ),
    Feature(
        "abilities",
        measures=_find("abilities.section:RECEIPT"),
        panels={"Board": ("abilities.panel:STRIP",)},
    ),
    Feature(
        "attribution",
        experiments=_find("attribution.result:find_check"),
        panels={"Budget": ("attribution.panel:TAB",), "Card": ("attribution.panel:CARD",)},
        colourings=_find("attribution.panel:THIS_TEXT"),
    ),
    Feature("neutral", measures=_find("neutral.section:NEUTRAL_TEXT")),
    Feature(
        "own_text",
        measures=_find("own_text.section:CONTINUATION"),
        panels={"Budget": ("own_text.panel:TAB",)},
        first_texts=_find("own_text.overview:FIRST_TEXT"),
    ),
    Feature("versus", panels={"Budget": ("versus:TAB",)}),
    Feature("stability", measures=_find("stability.measuring:STABILITY")),
    Feature("learn"),
    Feature("head_cards", panels={"Every page": ("head_cards.panel:DIALOG",)}),
)


def measures() -> tuple[Measure[Any], ...]:
    """Return what features measure of a mask, without those that cannot be imported."""
    return tuple(measure for feature in FEATURES for measure in _import_or_skip(feature.measures))


def panels(page: str) -> Sequence[Panel]:
    """Return the panels that features bring to a page. One that cannot be imported is replaced by one that says so."""
    from cahp.ui.frame import broken_panel

    shown = []
    for feature in FEATURES:
        for name in feature.panels.get(page, ()):
            try:
                shown.append(_resolve(f"{__name__}.{name}"))
            except Exception as error:
                _log.exception("panel %s cannot be imported", name)
                shown.append(broken_panel(feature.name, error))
    return shown


def experiments() -> tuple[Callable[[ComparisonDocument], Claim | None], ...]:
    """Return what finds the result of each experiment for a comparison, without those that cannot be imported."""
    return tuple(find for feature in FEATURES for find in _import_or_skip(feature.experiments))


def colourings() -> tuple[BoardColouring[Any], ...]:
    """Return the colourings of the board that features bring, without those that cannot be imported."""
    return tuple(colouring for feature in FEATURES for colouring in _import_or_skip(feature.colourings))


def first_texts() -> tuple[FirstText, ...]:
    """Return the lines for a person's text on the first screen, without those that cannot be imported."""
    return tuple(text for feature in FEATURES for text in _import_or_skip(feature.first_texts))


def _import_or_skip(find: Callable[[], Sequence[Any]]) -> Sequence[Any]:
    """Import a part of the screen. One that cannot be imported must not take its page down."""
    try:
        return find()
    except Exception:
        _log.exception("a part of the screen cannot be imported")
        return ()
