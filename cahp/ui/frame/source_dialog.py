"""Choosing a model and data: built in, from the hub, a folder, or files that somebody brings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import streamlit as st

from cahp import bundled, hub, models
from cahp.access import current
from cahp.api.preflight import default_seconds
from cahp.cards import ModelCard
from cahp.files import expanded, is_there
from cahp.models.language import without_classes
from cahp.run.settings import Settings
from cahp.ui.frame import address, data_fields, prompt_fields
from cahp.ui.frame.address import Wish
from cahp.ui.frame.progress import follow
from cahp.ui.parts.text import plain
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import Source, Upload, permitted
from cahp.values import CahpError, Progress
from cahp.words import duration, size_of

#: Keys of the session: the job that opens a model and data, and what a link wished for.
OPENING, WISH = address.OPENING, address.WISH
#: The wish that is being fulfilled, and whether what is being opened was chosen in the dialog.
_WAITING, _CHOSEN = "cahp_wish_opening", "cahp_dialog_chosen"
#: Whether the dialog is open, for which wish it was filled in, and why what was chosen in it could not be opened.
_OPEN, _FILLED, _WHY = "cahp_dialog", "cahp_dialog_filled", "cahp_dialog_why"
_LOOKED = "cahp_looked"

_OTHER_MODEL = "A folder or a Hugging Face id…"


def offer(explorer: Explorer) -> None:
    """What a link wished for, and how far it is with being opened: on the page, whose figures are of something else.

    To be drawn before ``door``, whose dialog it may open.
    """
    wish = st.session_state.get(WISH)
    if wish is not None:
        with st.container(key="wish"):
            _offer(explorer, wish)
    opening = st.session_state.get(OPENING)
    if opening is not None:
        follow(opening, place="opening", title="Opening model and data")


def door(explorer: Explorer) -> None:
    """The way to other models and data."""
    if st.button("Change model or data", key="change-source", type="tertiary"):
        st.session_state[_OPEN] = True
    # Drawn in each run until it is closed: what ends in the background runs the page, and must not close it.
    if st.session_state.get(_OPEN):
        st.dialog("Model and data", width="medium", on_dismiss=_close)(choose)(explorer)


def _close() -> None:
    st.session_state[_OPEN] = False
    st.session_state.pop(_WHY, None)


def succeeded() -> Wish | None:
    """What was chosen is open: forget what was brought for it; the wish of a link that it fulfils, if it does one."""
    data_fields.forget_files()
    wish: Wish | None = st.session_state.pop(_WAITING, None)
    return wish


def failed(why: str | None) -> None:
    """What was chosen could not be opened: the dialog, or the wish, is there again, with all that was chosen."""
    wish = st.session_state.pop(_WAITING, None)
    if wish is not None:
        st.session_state[WISH] = wish
    if st.session_state.pop(_CHOSEN, False) and why:
        st.session_state[_OPEN], st.session_state[_WHY] = True, why


def _offer(explorer: Explorer, wish: Wish) -> None:
    """Offer what a link wished for, or say why it cannot be had."""
    instead = f"This page shows {plain(explorer.card.id)} on {plain(explorer.bench.dataset.id)} instead."
    asked = f"{wish.model} on {wish.data}" if wish.data else wish.model
    if wish.files is not None:
        asked = f"{wish.model} on files that are in no link"
    if wish.prompt is not None:
        asked += f", asked “{wish.prompt[:200]}”"
    settings: Settings | None = None
    try:
        permitted(wish.settings)
        settings = wish.settings
    except CahpError as error:
        st.info(f"This link asks for {plain(asked)}, but {plain(str(error))}. {instead}")
    else:
        if wish.files is not None:
            st.info(f"This view is of {plain(asked)}. Bring them again, and it comes back. {instead}")
        else:
            st.info(f"This link asks for {plain(asked)}. Opening it reads from a folder or the network. {instead}")
    with st.container(horizontal=True, gap="small"):
        if settings is not None and wish.files is not None:
            if st.button("Bring the files", key="bring-files", type="primary") or st.session_state.get(_FILLED) != wish:
                _fill_in(wish)
                st.session_state[_OPEN] = True
        elif settings is not None and st.button("Open it", key="open-wish", type="primary"):
            _open(explorer, settings, None, wish=wish)
        if st.button("Leave it", key="leave-wish", type="tertiary"):
            data_fields.forget_link()
            _close()
            del st.session_state[WISH]
            st.rerun()


def _fill_in(wish: Wish) -> None:
    """What a link says of model and data, in the boxes of the dialog; only the files are missing."""
    st.session_state[_FILLED] = wish
    builtin = wish.model in models.BUILTINS
    st.session_state["source-model"] = wish.model if builtin else _OTHER_MODEL
    if not builtin:
        st.session_state["source-model-name"] = wish.model
    data_fields.fill_in(wish.settings)


def _open(
    explorer: Explorer, settings: Settings, upload: Upload | None, *, agreed: bool = False, wish: Wish | None = None
) -> None:
    """Open beside the worker (a hub model may have to be downloaded) and show it when it is there."""

    def opened(progress: Progress) -> Source:
        with hub.consent_from(lambda *_: agreed), hub.progress_to(progress):
            return Source.open(settings, upload)

    job = jobs.submit_io(explorer.id, "open", opened)
    st.session_state[OPENING] = job
    st.session_state.pop(WISH, None)
    st.session_state[_WAITING], st.session_state[_CHOSEN] = wish, agreed
    data_fields.forget_link()
    data_fields.keep_files(upload)
    _close()
    job.wait(3.0)
    st.rerun()


def choose(explorer: Explorer) -> None:
    """Choose a model and data, see what they are and what a run would take, and open them."""
    if why := st.session_state.get(_WHY):
        _error(why)
    wish = st.session_state.get(WISH)
    sample: dict[str, Any] = {"limit": explorer.settings.limit, "eval_limit": explorer.settings.eval_limit}
    if wish is not None and wish.files is not None:
        sample = address.choices_of(wish.said)
        st.caption("Filled in as the link says; only its files are missing.")
    try:
        card = _model()
        if card is None:
            return
        asked = replace(bundled.SETTINGS, model=st.session_state["source-model-resolved"], **sample)
        chosen = data_fields.draw(card, asked)
        if chosen is None:
            return
        settings, upload = chosen
        missing = (card.details or {}).get("missing", 0)
        words = f"Fetch {size_of(missing)} and use this model and data" if missing else "Use this model and data"
        if st.button(words, type="primary", key="use-source"):
            # Its words say how much is fetched.
            theirs = wish is not None and wish.files is not None and upload is not None
            _open(explorer, settings, upload, agreed=True, wish=wish if theirs else None)
    except CahpError as error:
        _error(str(error))


def _error(sentence: str) -> None:
    st.error(plain(sentence[:1].upper() + sentence[1:]))


def _model() -> ModelCard | None:
    ready = [name for name, builtin in models.BUILTINS.items() if builtin.adapter is not None]
    words = {name: models.BUILTINS[name].description for name in ready}
    picked = st.selectbox(
        "Model",
        [*ready, *([_OTHER_MODEL] if current().opens_folders else [])],
        format_func=lambda name: words.get(name, name),
        key="source-model",
        persist_state="session",
    )
    name = _named_model() if picked == _OTHER_MODEL else picked
    if not name:
        return None
    # Before anything is looked up: what exists here is not to be learned by those who may not open it.
    name = permitted(replace(bundled.SETTINGS, model=name)).model
    if "/" in name and not is_there(expanded(Path(name)), Path.is_dir) and not data_fields.agreed(name):
        return None
    card = _looked(name)
    if not card.labels and card.language is not None:
        asked = prompt_fields.draw(card)
        if asked is None:
            return None
        prompt_fields.preview(asked)
        card = asked
    if not card.labels:
        raise CahpError(f"{without_classes(card, card.id)}, and open that folder")
    took = f" · a default run takes about {duration(default_seconds(card))} here"
    st.caption(
        f"Supported ({card.family}) · {card.layers} layers × {card.heads} heads · classes "
        f"{plain(', '.join(card.labels)[:200])}{took}"
    )
    st.session_state["source-model-resolved"] = name
    return card


def _looked(name: str) -> ModelCard:
    """What is known of a model without its weights; the hub is asked once as long as the dialog names the same."""
    known: tuple[str, ModelCard] | None = st.session_state.get(_LOOKED)
    if known is not None and known[0] == name and known[1].revision is not None:
        return known[1]
    card = models.preview(name)
    st.session_state[_LOOKED] = (name, card)
    return card


def _named_model() -> str:
    needed = "A folder with config.json, safetensors weights and a tokenizer"
    if current().opens_hub:
        return str(
            st.text_input(
                "Folder or id",
                key="source-model-name",
                persist_state="session",
                placeholder="textattack/bert-base-uncased-SST-2, or /path/to/model",
                help=f"{needed}, or org/name[@revision] on the hub. Pickled weights and remote code are refused.",
            )
        ).strip()
    return str(st.text_input("Folder", key="source-model-name", persist_state="session", help=f"{needed}.")).strip()
