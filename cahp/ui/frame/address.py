"""A view is a link: model, prompt, data and how they are read, the settings, and budget or mask live in the address.

Texts never do, nor the names of files that somebody brought: such a link says that files belong to it, and whoever
opens it is asked for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from cahp import bundled, data, models
from cahp.board.state import Choices
from cahp.cards import ModelCard
from cahp.recoveries import NONE, RECOVERIES
from cahp.run import command_line
from cahp.run.settings import Settings, describe
from cahp.studies.versus import Variant
from cahp.ui.session.explorer import Explorer, Pin
from cahp.values import CahpError, HeadMask, MaskError

#: Session keys: what a link wished for, until a person has said yes or no; and the job that opens a model and data.
WISH, OPENING = "cahp_wish", "cahp_opening"

#: A prompt, its answers, or a list of pairs of a link: longer addresses do not survive everywhere.
_LONGEST = 4_000

#: Parts of an address, called like the fields of ``Settings`` that they fill: how data are read, and what is asked.
_READING = tuple(name for name, setting in describe().items() if setting.link == "source")
_CHOICES = tuple(name for name, setting in describe().items() if setting.link == "choice")
#: What is pinned; from the third on, what opens its model, where that is not the model of the address.
_PINNED = ("pin", "pin-recover", "pin-model", "pin-prompt", "pin-answers", "pin-label_map", "pin-again")
_BOARD = ("budget", "mask", "recover", *_PINNED)
_SOURCE = ("model", "data", "files", "prompt", "answers", *_READING)


@dataclass(frozen=True)
class Wish:
    """What a link asked for that needs a person's yes; ``files``: the fingerprint of those that belong to it.

    ``said`` are settings as the link has them, and ``board`` what is to be on the board then.
    """

    model: str
    data: str | None
    prompt: str | None = None
    answers: str = ""
    files: str | None = None
    said: Mapping[str, str] = field(default_factory=dict)
    board: Mapping[str, str] = field(default_factory=dict)

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
            **_settings(self.said),
        )


def asked(params: Mapping[str, str]) -> tuple[Settings, Wish | None]:
    """The settings that a link may open at once, and what it wishes beyond them.

    Raises:
        CahpError: If what it asks for has no sense.
    """
    default = bundled.SETTINGS
    model, named = params.get("model", default.model), params.get("data")
    builtin = models.BUILTINS.get(model)
    said = {name: params[name][:_LONGEST] for name in (*_READING, *_CHOICES) if name in params}
    read_otherwise = "files" in params or bool(set(said) & set(_READING))
    if builtin is not None and builtin.data is not None and named in (None, builtin.data) and not read_otherwise:
        return replace(default, model=model, **_settings(said)), None
    if model == default.model and named is None and not read_otherwise:
        return replace(default, **_settings(said)), None
    prompt, answers = params.get("prompt"), params.get("answers", "")
    return default, Wish(
        model[:200],
        None if named is None else named[:200],
        None if prompt is None else prompt[:_LONGEST],
        answers[:_LONGEST],
        params.get("files"),
        said,
        {name: params[name] for name in _BOARD if name in params},
    )


def _settings(said: Mapping[str, str]) -> dict[str, Any]:
    """Settings as a link has them."""
    found: dict[str, Any] = {}
    for name, text in said.items():
        if name in ("label_map", "splits"):
            found[name] = (data.parse_label_map if name == "label_map" else data.parse_splits)(text)
        else:
            found[name] = _number(name, text) if describe()[name].kind is int else text
    if "min_per_layer" in found:
        found["recover"] = "refit" if found["min_per_layer"] else "none"
    return found


def restore(explorer: Explorer, params: Mapping[str, str]) -> None:
    """Put the budget or the mask of a link on the board, recovered as it says, and pin what it says beside it.

    Raises:
        CahpError: If it is not one for this model.
    """
    here = {name: value for name, value in wanted(explorer).items() if name in _BOARD}
    if here == {name: params[name] for name in _BOARD if name in params}:
        # It is there: what led to it can still be undone.
        return
    budget, mask = params.get("budget"), params.get("mask")
    explorer.recover = _recovery(params.get("recover"))
    if mask is not None:
        explorer.board.set_mask(mask_from_hex(mask, explorer.card.layers, explorer.card.heads))
    elif budget is not None and budget != "auto":
        table = explorer.table()
        if table is not None:
            table.selection(_number("budget", budget))
        # Before the first run it waits there.
        explorer.board.set_budget(_number("budget", budget))
    else:
        explorer.board.set_budget(None)
    _restore_pin(explorer, {name: params[name] for name in _PINNED if name in params})


def _restore_pin(explorer: Explorer, said: Mapping[str, str]) -> None:
    if said == _pin(explorer):
        # It may be of another model, which was looked up already.
        return
    explorer.pinned, explorer.pin_asked = None, {}
    if "pin" not in said:
        return
    if "pin-model" in said:
        pin_settings(said)
        explorer.pin_asked = said
    else:
        explorer.pinned = pin_of(said, explorer.settings, explorer.card)


def pin_settings(said: Mapping[str, str]) -> Settings:
    """What opens the model of a pin that a link asks for.

    Raises:
        CahpError: If that has no sense.
    """
    if any(len(text) > _LONGEST for text in said.values()):
        raise CahpError("What this link says of the pinned mask is longer than a link can be.")
    return replace(
        bundled.SETTINGS,
        model=said["pin-model"],
        data=None,
        prompt=said.get("pin-prompt"),
        answers=data.parse_answers(said.get("pin-answers", "")),
        label_map=data.parse_label_map(said["pin-label_map"]) if "pin-label_map" in said else {},
        # A mask that only stands beside the board may empty a layer.
        min_per_layer=0,
        recover="none",
    )


def pin_of(said: Mapping[str, str], settings: Settings, card: ModelCard) -> Pin:
    """What a link pins of the model of ``card``.

    Raises:
        MaskError: If its mask is not one for this model.
    """
    mask = mask_from_hex(said["pin"], card.layers, card.heads)
    Choices(card, settings).check(mask)
    return Pin(Variant(mask, "none" if mask.empty_layers else _recovery(said.get("pin-recover"))), card, settings)


def _pin(explorer: Explorer) -> dict[str, str]:
    """What is pinned, as parts of an address."""
    pin = explorer.pinned
    if pin is None:
        return dict(explorer.pin_asked)
    found = {"pin": mask_to_hex(pin.variant.mask)}
    if pin.variant.recover != "none":
        found["pin-recover"] = pin.variant.recover
    if pin.is_of(explorer.card):
        return found
    asked = pin.settings
    more = {"pin-prompt": asked.prompt or "", "pin-answers": command_line.to_text(asked.answers)}
    more["pin-label_map"] = command_line.to_text(asked.label_map)
    found["pin-model"] = asked.model
    if max(map(len, more.values())) > _LONGEST:
        return {**found, "pin-again": "1"}
    return found | {name: text for name, text in more.items() if text}


def _recovery(said: str | None) -> str:
    """A recovery that an address names; an unknown word is none."""
    row = RECOVERIES.get(said or "", NONE)
    return row.name if row.on_board else NONE.name


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 9):
        what = "a number of heads" if name == "budget" else "a number"
        raise CahpError(f"The {name} in this link is not {what}.")
    return int(text)


def wanted(explorer: Explorer) -> dict[str, str]:
    """Where one is, as the parts of an address, also what is pinned: never a text, no name of a session's file."""
    settings = explorer.settings
    found = {"model": settings.model}
    if explorer.source.uploaded:
        found["files"] = explorer.source.fingerprint
    else:
        found["data"] = explorer.bench.dataset.id
    if settings.prompt is not None and len(settings.prompt) <= _LONGEST:
        found["prompt"], found["answers"] = settings.prompt, command_line.to_text(settings.answers)
    for name in (*_READING, *_CHOICES):
        value = getattr(settings, name)
        if value == getattr(bundled.SETTINGS, name) or (name == "splits" and explorer.source.uploaded):
            continue
        text = command_line.to_text(value)
        if len(text) <= _LONGEST:
            found[name] = text
    board = explorer.board
    if board.by_hand:
        found["mask"] = mask_to_hex(explorer.mask)
    elif explorer.results.run is not None:
        found["budget"] = "auto" if board.auto else str(board.budget)
    elif board.asked is not None:
        found["budget"] = str(board.asked)
    if explorer.recover != "none":
        found["recover"] = explorer.recover
    return found | _pin(explorer)


def write(explorer: Explorer) -> None:
    """Say where one is.

    As long as a link's wish waits for a yes, the address is that link, so that a reload keeps it.
    """
    if WISH in st.session_state or OPENING in st.session_state:
        return
    found = wanted(explorer)
    if any(st.query_params.get(name) != value for name, value in found.items()):
        st.query_params.update(found)
    for name in {*_SOURCE, *_CHOICES, *_BOARD}.intersection(st.query_params) - set(found):
        st.query_params.pop(name, None)


def came_back() -> bool:
    """Whether this run was asked for by the browser's Back or Forward: its address is then where one is."""
    context = get_script_run_ctx()
    return context is not None and context.is_history_navigation


def source_of(params: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    """What an address says of model and data: the same for all views of them."""
    return frozenset((name, value) for name, value in params.items() if name in _SOURCE)


def choices_of(params: Mapping[str, str]) -> dict[str, Any]:
    """The settings that an address asks for on its model and data, those that it leaves out as they usually are.

    Raises:
        CahpError: If one has no sense.
    """
    usual = {name: getattr(bundled.SETTINGS, name) for name in _CHOICES}
    return usual | _settings({name: params[name] for name in _CHOICES if name in params})


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
