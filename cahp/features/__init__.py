"""Features, each in a room of its own, and the one table of them.

A room holds all that one feature needs: what it measures, its section of a run, its figure, panel or page, and
its words. The core knows none of them; the front doors (``api``, ``cli``, ``ui``) read this table. Rooms do not
know each other. A new feature is a folder here and a row of ``FEATURES``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cahp.comparison import ComparisonDocument
    from cahp.run import Measure
    from cahp.show import Claim
    from cahp.ui.frame import BoardColouring, FirstText, Panel


_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Feature:
    """The names of the parts of one feature by seam, each ``room.module:NAME``. It is imported when it is first used.

    ``measures`` are what is measured of a mask, with all their doors, and ``panels`` its panel of each page (see
    ``Panel``). ``experiments`` find what was measured once of the model of a comparison (None: it does not apply).
    ``colourings`` are those of the board, and ``first_texts`` the lines for a person's text on the first screen. Pages
    are scripts in ``pages/``.
    """

    name: str
    measures: Sequence[str] = ()
    panels: Mapping[str, str] = field(default_factory=dict)
    experiments: Sequence[str] = ()
    colourings: Sequence[str] = ()
    first_texts: Sequence[str] = ()


#: All features, in the order of their commands and sections.
FEATURES = (
    Feature(
        "findings",
        experiments=("findings:find_premise", "findings:find_peers"),
    ),
    Feature(
        "roles",
        measures=("roles.section:ROLES_OF_HEADS",),
        panels={
            "Budget": "roles.panel:TAB",
            "Similarity": "roles.panel:ONE_HEAD",
            "Card": "roles.panel:HEADLINE",
        },
        colourings=("roles.panel:ATTENTION", "roles.panel:ROLE"),
    ),
    Feature(
        "abilities",
        measures=("abilities.section:RECEIPT",),
        panels={"Board": "abilities.panel:STRIP"},
    ),
    Feature(
        "attribution",
        experiments=("attribution.result:find_check",),
        panels={"Budget": "attribution.panel:TAB", "Card": "attribution.panel:CARD"},
        colourings=("attribution.panel:THIS_TEXT",),
    ),
    Feature("neutral", measures=("neutral.section:NEUTRAL_TEXT",)),
    Feature(
        "own_text",
        measures=("own_text.section:CONTINUATION",),
        panels={"Budget": "own_text.panel:TAB"},
        first_texts=("own_text.overview:FIRST_TEXT",),
    ),
    Feature("versus", panels={"Budget": "versus:TAB"}),
    Feature("stability", measures=("stability.measuring:STABILITY",)),
    Feature(
        "anatomy",
        measures=("anatomy:ANATOMY",),
        panels={"Card": "anatomy.panel:CARD"},
        colourings=("anatomy.panel:COVER",),
    ),
    Feature("learn"),
    Feature("head_cards", panels={"Every page": "head_cards.panel:DIALOG"}),
)


@cache
def find_part(name: str) -> Any:
    """Import a part of a room. Once: every page asks for those of all features."""
    return resolve_name(f"{__name__}.{name}")


def measures() -> tuple[Measure[Any], ...]:
    """Return what features measure of a mask, without those that cannot be imported."""
    return tuple(_find_parts("measures"))


def panels(page: str) -> Sequence[Panel]:
    """Return the panels that features bring to a page. One that cannot be imported is replaced by one that says so."""
    from cahp.ui.frame import broken_panel

    shown = []
    for feature in FEATURES:
        if page in feature.panels:
            try:
                shown.append(find_part(feature.panels[page]))
            except Exception as error:
                _log.exception("panel %s cannot be imported", feature.panels[page])
                shown.append(broken_panel(feature.name, error))
    return shown


def experiments() -> tuple[Callable[[ComparisonDocument], Claim | None], ...]:
    """Return what finds the result of each experiment for a comparison, without those that cannot be imported."""
    return tuple(_find_parts("experiments"))


def colourings() -> tuple[BoardColouring[Any], ...]:
    """Return the colourings of the board that features bring, without those that cannot be imported."""
    return tuple(_find_parts("colourings"))


def first_texts() -> tuple[FirstText, ...]:
    """Return the lines for a person's text on the first screen, without those that cannot be imported."""
    return tuple(_find_parts("first_texts"))


def _find_parts(seam: str) -> Iterator[Any]:
    """Import the parts of all features at a seam. One that cannot be imported must not take a page down."""
    for feature in FEATURES:
        for name in getattr(feature, seam):
            try:
                yield find_part(name)
            except Exception:
                _log.exception("%s cannot be imported", name)
