"""Perplexity as others compute it: whole texts in their order, by a protocol with a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cahp.features.feature import Feature

if TYPE_CHECKING:
    from cahp.cli.command import Alternative


def _list_evaluations() -> Sequence[Alternative]:
    from cahp.features.standard_protocol.command import PROTOCOL

    return (PROTOCOL,)


STANDARD_PROTOCOL = Feature("standard_protocol", evaluations=_list_evaluations)
