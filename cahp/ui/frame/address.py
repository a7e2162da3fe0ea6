"""The view in the address: model, prompt, data, settings, budget or mask, and pin.

Texts are never part of an address, nor the names of uploaded files: such a link tells that files belong to it, and the
page asks for them when the link is opened.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from cahp import access, models
from cahp.api import bundled
from cahp.board.versus import Variant
from cahp.exports.masks import mask_from_hex, mask_to_hex
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.settings import COLUMNS, PROMPT, Settings, describe as describe_settings, to_text
from cahp.ui.parts.display import clear_note
from cahp.ui.session.explorer import Explorer, Pin
from cahp.ui.session.opening import with_length
from cahp.values import CahpError, JsonObject

T = TypeVar("T")
#: The fields of an address.
Address = Mapping[str, str]

#: Session key: a link's model and data until a person confirms or dismisses them.
WISH = "cahp_wish"
#: Session keys: the job that opens model and data, the link that it opens (None: a choice in the dialog), and the files
#: that were uploaded for it (None: no files), which stay if it fails.
OPENING = "cahp_opening"
OPENED = "cahp_opened"
UPLOADED = "cahp_uploaded"

#: Session key: the head that My text shows.
CHOSEN_HEAD = "similarity-head"

#: The longest value that is read or written: longer addresses do not work everywhere.
_LONGEST = 4_000

#: Address fields by purpose. All but the fingerprint of uploaded ``files`` and those of the board are named like the
#: field of ``Settings`` that they fill: those of the source, and those that may change with the same source.
_READING = (*PROMPT, *COLUMNS, "label_map")
_CHOICES = (
    "limit",
    "eval_limit",
    "window",
    "stride",
    "bos",
    "tokens",
    "eval_tokens",
    "max_length",
    "min_per_layer",
    "min_first_layers",
    "even",
    "poly_degree",
    "projection",
    "salience",
    "representative",
)
_SOURCE = ("model", "data", "files", *_READING)
_PINNED = ("pin", "pin-recover")
_BOARD = ("budget", "mask", "recover", *_PINNED)
#: The fields that only some pages have, by the title of the page.
_OF_PAGE = {
    "Home": ("head",),
    "Similarity": ("view", "shown"),
    "Budget": ("panel", "head"),
    "Compare": ("outcome", "recovery", "at", "methods"),
    "Learn": ("step", "guesses", "lang"),
    "Guide": ("page",),
}


@dataclass(frozen=True)
class Wish:
    """A link that needs a person's consent: its ``fields`` of settings, and those of the ``board``.

    ``files`` is the fingerprint of the files that belong to the link.
    """

    fields: Address
    files: str | None = None
    board: Address = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """The link as settings.

        Raises:
            CahpError: If a field is invalid.
        """
        return replace(bundled.SETTINGS, **{"data": None, **_parse(self.fields)})


# Reading an address ------------------------------------------------------------------------------------------


def read(params: Address) -> tuple[Settings, Wish | None]:
    """Return the settings that can be opened at once, and the part of the link that needs consent.

    Raises:
        CahpError: If a field is invalid.
    """
    start = access.current().start
    shown = ("model", "data", *_READING, *_CHOICES)
    if start and _pick(params, shown) == _pick(start, shown):
        # The person who started the explorer named it.
        given = {name: text for name, text in start.items() if name in describe_settings()}
        return replace(bundled.SETTINGS, **{"data": None, **_parse(given)}), None
    model = params.get("model", bundled.SETTINGS.model)
    builtin = models.BUILTINS.get(model)
    own = {"files", *_READING}.intersection(params)
    if (
        not own
        and builtin is not None
        and builtin.data is not None
        and params.get("data", builtin.data) == builtin.data
    ):
        return replace(bundled.SETTINGS, model=model, **_parse(_pick(params, _CHOICES))), None
    fields = _pick({"model": model, **params}, shown)
    return bundled.SETTINGS, Wish(fields, params.get("files"), _pick(params, _BOARD))


def read_choices(params: Address) -> JsonObject:
    """Return the settings in an address that do not depend on model and data; missing ones have their defaults.

    Raises:
        CahpError: If a field is invalid.
    """
    return {name: getattr(bundled.SETTINGS, name) for name in _CHOICES} | _parse(_pick(params, _CHOICES))


def _pick(params: Address, names: Iterable[str]) -> dict[str, str]:
    return {name: params[name][:_LONGEST] for name in names if name in params}


def _parse(fields: Address) -> JsonObject:
    """Convert settings in an address to the values that ``Settings`` takes."""
    settings = {}
    for name, text in fields.items():
        setting = describe_settings()[name]
        settings[name] = setting.parse(text)
        if setting.kind in (bool, int):
            settings[name] = _convert(name, text, setting.kind)
    return settings


def _convert(name: str, text: str, kind: type[T]) -> T:
    with suppress(msgspec.ValidationError):
        if len(text) < 9:
            return msgspec.convert(text, kind, strict=False)
    raise CahpError(f"The {name} in this link is not a number. Correct the link, or open the page without it.")


def restore(explorer: Explorer, params: Address) -> None:
    """Restore the board, its recovery and the pin from an address.

    Raises:
        CahpError: If they do not fit this model.
    """
    shown = describe(explorer)
    if _pick(params, _BOARD) == _pick(shown, _BOARD):
        # The same view is on screen: its Undo stays.
        return
    # What was said of the view before says nothing about this one.
    clear_note()
    card = explorer.card
    explorer.chosen_recovery = params.get("recover")
    if explorer.chosen_recovery not in (None, *explorer.recoveries):
        explorer.chosen_recovery = None
        possible = ", ".join(explorer.recoveries)
        raise CahpError(f"The recovery in this link is not possible here; it may be one of {possible}")
    budget = None
    if params.get("budget", "auto") != "auto":
        budget = _convert("budget", params["budget"], int)
    elif not {"budget", "mask"}.intersection(params):
        budget = explorer.start_budget
    if "mask" in params:
        explorer.board.restore_mask(mask_from_hex(params["mask"], card.layers, card.heads), budget)
    else:
        table = explorer.table()
        if table is not None and budget is not None:
            # Refuses a budget that the model does not have; before the first run the budget waits on the board.
            table.selection(budget)
        explorer.board.set_budget(budget)
    if _pick(params, _PINNED) == _pick(shown, _PINNED):
        # A pin of another model is in no link, and stays.
        return
    explorer.pinned = None
    if "pin" in params:
        mask = mask_from_hex(params["pin"], card.layers, card.heads)
        explorer.choices().check(mask)
        recover = params.get("pin-recover", NONE.name)
        offered = explorer.recoveries
        if recover not in offered and all(RECOVERIES[name].at_once != recover for name in offered):
            recover = NONE.name
        explorer.pinned = Pin(Variant(mask, recover), card, explorer.settings)


# Writing an address ------------------------------------------------------------------------------------------


def describe(explorer: Explorer) -> dict[str, str]:
    """Return the view as fields of an address, with the pin; it has no text and no name of an uploaded file."""
    settings = explorer.settings
    board = explorer.board
    uploaded = explorer.source.uploaded
    fields = {"model": settings.model}
    if uploaded:
        fields["files"] = explorer.source.fingerprint
    else:
        fields["data"] = explorer.bench.dataset.id
    usual = with_length(replace(bundled.SETTINGS, model=settings.model, data=settings.data), uploaded=uploaded)
    for name in (*_READING, *_CHOICES):
        text = to_text(getattr(settings, name))
        # The keys of splits are names of files.
        if text != to_text(getattr(usual, name)) and len(text) <= _LONGEST and not (name == "splits" and uploaded):
            fields[name] = text
    if board.by_hand:
        fields["mask"] = mask_to_hex(explorer.mask)
    if board.requested is not None:
        # A mask made by hand has the clusters of the budget that it was made from.
        fields["budget"] = str(board.requested)
    elif not board.by_hand and explorer.results.run is not None:
        fields["budget"] = "auto"
    if explorer.chosen_recovery is not None:
        fields["recover"] = explorer.chosen_recovery
    pin = explorer.pinned
    if pin is not None and pin.is_of(explorer.card):
        # Only the session keeps one of another model.
        fields["pin"] = mask_to_hex(pin.variant.mask)
        if pin.variant.recover != NONE.name:
            fields["pin-recover"] = pin.variant.recover
    return fields


def drop_other_pages(title: str) -> None:
    """Remove the fields of other pages from the address of the page ``title``.

    A page that is being left may write its fields after the browser has gone back, into the address that is shown then.
    """
    for name in {*chain(*_OF_PAGE.values())} - {*_OF_PAGE.get(title, ())}:
        st.query_params.pop(name, None)
    if is_history_navigation():
        # Streamlit sends the address only when it changes here, and the browser's may be another one.
        st.query_params.from_dict(st.query_params.to_dict())


def linked(name: str) -> str:
    """Return a field that a person's link or the browser's Back has set, not ``put`` (empty: none has)."""
    value = str(st.query_params.get(name, ""))
    if value == st.session_state.get(f"address-{name}"):
        return ""
    return value


def put(name: str, value: str) -> None:
    """Set a field that only one page has; an empty value removes it."""
    st.session_state[f"address-{name}"] = value
    if not value:
        st.query_params.pop(name, None)
    elif st.query_params.get(name) != value:
        st.query_params[name] = value


def write(explorer: Explorer) -> None:
    """Update the browser's address.

    While a link's model and data wait for consent, the address stays that link, so that a reload keeps it.
    """
    if WISH in st.session_state or OPENING in st.session_state:
        return
    fields = describe(explorer)
    if any(st.query_params.get(name) != value for name, value in fields.items()):
        st.query_params.update(fields)
    for name in {*_SOURCE, *_CHOICES, *_BOARD}.intersection(st.query_params) - set(fields):
        st.query_params.pop(name, None)


# About the address -------------------------------------------------------------------------------------------


def is_history_navigation() -> bool:
    """Return whether the browser's Back or Forward started this run: the address then has the view to show."""
    context = get_script_run_ctx()
    return context is not None and context.is_history_navigation


def source_of(params: Address) -> frozenset[tuple[str, str]]:
    """Return the fields of model and data, which all views of them share."""
    return frozenset((name, value) for name, value in params.items() if name in _SOURCE)


def parse_head(text: str, layers: int, heads: int) -> int | None:
    """Return the head that a link names, as layer.head or as a flat index (None: no such head)."""
    if re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,5})?", text) is None:
        return None
    first, _, second = text.partition(".")
    head = int(first)
    if second:
        if int(second) >= heads:
            return None
        head = head * heads + int(second)
    if head >= layers * heads:
        return None
    return head


def set_head(head: int) -> None:
    """Choose this head."""
    st.session_state[CHOSEN_HEAD] = head


def page_url(title: str, **query: str) -> tuple[str, bool]:
    """Return the URL of a page, and whether other machines can open it."""
    here = urlsplit(str(st.context.url or ""))
    listening = str(st.get_option("server.address") or "0.0.0.0")  # noqa: S104
    host = here.hostname or "127.0.0.1"
    port = here.port
    if access.is_loopback(host):
        port = port or int(st.get_option("server.port"))
        if access.is_every_address(listening):
            # This person uses the machine that runs the server.
            host = access.reachable(listening)
    # Behind a proxy there may be no port.
    url = access.current().address(host, port, title, scheme=here.scheme or "http", **query)
    return url, not access.is_loopback(host)
