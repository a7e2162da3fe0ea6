"""Features, each in a room of its own, and the one table of them.

A room holds all that one feature needs: what it measures, its section of a run, its figure, panel or page, its command
and its words. The core knows none of them; the front doors (``api``, ``cli``, ``ui``) read this table. Rooms do not
know each other. A new feature is a folder here and a row of ``FEATURES``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cahp.features.abilities import ABILITIES
from cahp.features.attribution import ATTRIBUTION
from cahp.features.head_cards import HEAD_CARDS
from cahp.features.learn import LEARN
from cahp.features.neutral import NEUTRAL
from cahp.features.own_text import OWN_TEXT
from cahp.features.paired_tasks import PAIRED_TASKS
from cahp.features.peers import PEERS
from cahp.features.premise import PREMISE
from cahp.features.reproduce import REPRODUCE
from cahp.features.roles import ROLES
from cahp.features.stability import STABILITY
from cahp.features.standard_protocol import STANDARD_PROTOCOL
from cahp.features.versus import VERSUS

if TYPE_CHECKING:
    from cahp.cli.command import Alternative, Command
    from cahp.features.feature import Feature
    from cahp.run.sections import Section
    from cahp.ui.frame.panels import BoardColouring, FirstText, Panel

#: All features, in the order of their commands and sections.
FEATURES: tuple[Feature, ...] = (
    PREMISE,
    ROLES,
    ABILITIES,
    ATTRIBUTION,
    PEERS,
    NEUTRAL,
    OWN_TEXT,
    REPRODUCE,
    VERSUS,
    STABILITY,
    LEARN,
    HEAD_CARDS,
    STANDARD_PROTOCOL,
    PAIRED_TASKS,
)


def sections() -> tuple[Section[Any], ...]:
    """Return the sections of a run that features measure."""
    return tuple(section for feature in FEATURES for section in feature.sections())


def commands() -> tuple[Command, ...]:
    """Return the commands that features bring."""
    return tuple(command for feature in FEATURES for command in feature.commands())


def evaluations() -> tuple[Alternative, ...]:
    """Return the further ways of ``cahp evaluate`` that features bring."""
    return tuple(evaluation for feature in FEATURES for evaluation in feature.evaluations())


def panels(page: str) -> Sequence[Panel]:
    """Return the panels that features bring to a page."""
    return [panel for feature in FEATURES for panel in feature.panels() if panel.page == page]


def colourings() -> tuple[BoardColouring[Any], ...]:
    """Return the colourings of the board that features bring."""
    return tuple(colouring for feature in FEATURES for colouring in feature.colourings())


def first_texts() -> tuple[FirstText, ...]:
    """Return the lines for a person's text on the first screen that features bring."""
    return tuple(text for feature in FEATURES for text in feature.first_texts())
