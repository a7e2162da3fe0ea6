"""Other ways to shrink the cache of a language model, at equal bytes: ``cahp peers``, and a tab on Compare.

A peer changes the model in a way that need not be a mask: layers are dropped, key-value heads merged, or the cache is
rounded. Each returns a model, which is then measured like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cahp.features.feature import Feature

if TYPE_CHECKING:
    from cahp.cli.command import Command
    from cahp.ui.frame.panels import Panel


def _list_commands() -> Sequence[Command]:
    from cahp.features.peers.command import peers

    return (peers,)


def _list_panels() -> Sequence[Panel]:
    from cahp.features.peers.panel import NOTE, TAB

    return (TAB, NOTE)


PEERS = Feature("peers", commands=_list_commands, panels=_list_panels)
