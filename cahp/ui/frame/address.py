"""A view is a link: model, prompt, data, and budget or mask live in the address; texts never do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import streamlit as st

from cahp import bundled, data, models
from cahp.run.settings import Settings
from cahp.run.spelling import written
from cahp.studies.budget_sweep import Recover
from cahp.studies.versus import Variant
from cahp.ui.session.explorer import Explorer
from cahp.values import CahpError, HeadMask, MaskError

#: A prompt, or its answers, of a link: longer addresses do not survive everywhere.
_LONGEST = 4_000
#: What an address says of a board.
_BOARD = ("budget", "mask", "recover", "pin", "pin-recover")


@dataclass(frozen=True)
class Wish:
    """What a link asked for that needs a person's yes."""

    model: str
    data: str | None
    prompt: str | None = None
    answers: str = ""

    @property
    def settings(self) -> Settings:
        """What it wished for.

        Raises:
            OptionError: If it asks in a way that has no sense.
        """
        return replace(
            bundled.SETTINGS,
            model=self.model,
            data=self.data,
            prompt=self.prompt,
            answers=data.parse_answers(self.answers),
        )


def asked(params: Mapping[str, str]) -> tuple[Settings, Wish | None]:
    """The settings that a link may open at once, and what it wishes beyond them."""
    default = bundled.SETTINGS
    model, named = params.get("model", default.model), params.get("data")
    builtin = models.BUILTINS.get(model)
    if builtin is not None and builtin.data is not None and named in (None, builtin.data):
        return replace(default, model=model), None
    if model == default.model and named is None:
        return default, None
    prompt, answers = params.get("prompt"), params.get("answers", "")
    return default, Wish(
        model[:200],
        None if named is None else named[:200],
        None if prompt is None else prompt[:_LONGEST],
        answers[:_LONGEST],
    )


def restore(explorer: Explorer) -> None:
    """Put the budget or the mask of a link on the board, recovered as it says, and pin what it says beside it.

    Raises:
        CahpError: If it is not one for this model.
    """
    budget, mask = st.query_params.get("budget"), st.query_params.get("mask")
    explorer.recover = _recovery("recover")
    if (pinned := st.query_params.get("pin")) is not None:
        other = mask_from_hex(pinned, explorer.card.layers, explorer.card.heads)
        explorer.choices().check(other)
        explorer.pinned = Variant(other, _recovery("pin-recover"))
    if mask is not None:
        explorer.board.set_mask(mask_from_hex(mask, explorer.card.layers, explorer.card.heads))
    elif budget is not None and budget != "auto":
        table = explorer.table()
        if table is not None:
            table.selection(_number(budget))
            explorer.board.set_budget(_number(budget))


def _recovery(name: str) -> Recover:
    """A recovery that the address names; an unknown word is none."""
    said = st.query_params.get(name)
    return next((recover for recover in get_args(Recover) if recover == said), "none")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise CahpError("The budget in this link is not a number of heads.")
    return int(text)


def write(explorer: Explorer) -> None:
    """Say where one is: model, prompt, data, budget or mask, recovery, and what is pinned beside it.

    Never a text, and no name of a session's file.
    """
    wanted = {"model": explorer.settings.model}
    if not explorer.source.uploaded:
        wanted["data"] = explorer.bench.dataset.id
    if explorer.settings.prompt is not None and len(explorer.settings.prompt) <= _LONGEST:
        wanted["prompt"], wanted["answers"] = explorer.settings.prompt, written(explorer.settings.answers)
    if explorer.board.by_hand:
        wanted["mask"] = mask_to_hex(explorer.mask)
    elif explorer.results.run is not None:
        wanted["budget"] = "auto" if explorer.board.auto else str(explorer.board.budget)
    if explorer.recover != "none":
        wanted["recover"] = explorer.recover
    if explorer.pinned is not None:
        wanted["pin"] = mask_to_hex(explorer.pinned.mask)
        if explorer.pinned.recover != "none":
            wanted["pin-recover"] = explorer.pinned.recover
    if any(st.query_params.get(name) != value for name, value in wanted.items()):
        st.query_params.update(wanted)
    for name in {"data", "prompt", "answers", *_BOARD} - set(wanted):
        st.query_params.pop(name, None)


def forget_board() -> None:
    """Take a budget, or masks for another model, and their recovery out of the address."""
    for name in _BOARD:
        st.query_params.pop(name, None)


def view() -> dict[str, str]:
    """What the address says of the view: links to other pages take it along."""
    return {name: value for name, value in st.query_params.to_dict().items() if isinstance(value, str)}


def mask_to_hex(mask: HeadMask) -> str:
    """A mask for an address: its bits, four a digit."""
    return np.packbits(mask.keep.ravel()).tobytes().hex()


def mask_from_hex(text: str, layers: int, heads: int) -> HeadMask:
    """The mask that ``mask_to_hex`` wrote.

    Raises:
        MaskError: If it is for another number of heads.
    """
    try:
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8))
    except ValueError:
        bits = np.zeros(0, dtype=np.uint8)
    total = layers * heads
    if len(bits) != -(-total // 8) * 8 or bits[total:].any():
        raise MaskError("The mask in this link is not one for this model.")
    return HeadMask(bits[:total].astype(np.bool_).reshape(layers, heads))
