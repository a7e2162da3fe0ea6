"""The published experiment, repeated: ``cahp reproduce``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cahp.features.feature import Feature

if TYPE_CHECKING:
    from cahp.cli.command import Command


def _list_commands() -> Sequence[Command]:
    from cahp.features.reproduce.command import reproduce

    return (reproduce,)


REPRODUCE = Feature("reproduce", commands=_list_commands)
