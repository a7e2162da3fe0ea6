"""The dialog for a model and data: built-in, from the hub, from a folder, or uploaded."""

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
from cahp.models.language import explain_missing_classes
from cahp.run.settings import Settings
from cahp.ui.frame import address, data_fields, prompt_fields
from cahp.ui.frame.address import Wish
from cahp.ui.frame.running import follow
from cahp.ui.parts.display import plain
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import Source, Upload, permitted
from cahp.values import CahpError, Progress
from cahp.words import duration, size_of

#: Session keys: the job that opens a model and data, and the link that waits for consent.
OPENING, WISH = address.OPENING, address.WISH
#: Session keys: the link that is being opened, and whether its model and data were chosen in the dialog.
_WAITING, _CHOSEN = "cahp_wish_opening", "cahp_dialog_chosen"
#: Session keys: whether the dialog is open, the link it was filled in for, and why the last choice failed to open.
_OPEN, _FILLED, _WHY = "cahp_dialog", "cahp_dialog_filled", "cahp_dialog_why"
#: Session key: the model that was looked up last.
_LOOKED_UP = "cahp_looked"

_OTHER_MODEL = "A folder or a Hugging Face id…"


def offer(explorer: Explorer) -> None:
    """Show on the page that a link waits for consent, or how far it is with opening.

    Draw it before ``change_button``, whose dialog it may open.
    """
    wish = st.session_state.get(WISH)
    if wish is not None:
        with st.container(key="wish"):
            _offer_link(explorer, wish)
    opening = st.session_state.get(OPENING)
    if opening is not None:
        follow(opening, place="opening", title="Opening model and data")


def change_button(explorer: Explorer) -> None:
    """Draw the button that opens the dialog, and the dialog."""
    if st.button("Change model or data", key="change-source", type="tertiary"):
        st.session_state[_OPEN] = True
    # Drawn in each run until it is closed: a job that ends reruns the page, which must not close it.
    if st.session_state.get(_OPEN):
        st.dialog("Model and data", width="medium", on_dismiss=_close)(choose)(explorer)


def _close() -> None:
    st.session_state[_OPEN] = False
    st.session_state.pop(_WHY, None)


def succeeded() -> Wish | None:
    """Forget uploaded files that are open now; return the link that was opened, if there is one."""
    data_fields.keep_files(None)
    wish: Wish | None = st.session_state.pop(_WAITING, None)
    return wish


def failed(why: str | None) -> None:
    """Show the dialog, or the link, again with all its choices, after opening failed."""
    wish = st.session_state.pop(_WAITING, None)
    if wish is not None:
        st.session_state[WISH] = wish
    if st.session_state.pop(_CHOSEN, False) and why:
        st.session_state[_OPEN], st.session_state[_WHY] = True, why


def _offer_link(explorer: Explorer, wish: Wish) -> None:
    """Offer to open a link, or tell why it cannot be opened."""
    instead = f"This page shows {plain(explorer.card.id)} on {plain(explorer.bench.dataset.id)} instead."
    linked = wish.fields["model"]
    if wish.files is not None or "data" in wish.fields:
        linked += f" on {wish.fields['data'] if wish.files is None else 'uploaded files'}"
    if "prompt" in wish.fields:
        linked += f" with the prompt “{wish.fields['prompt'][:200]}”"
    settings: Settings | None = None
    try:
        permitted(wish.settings)
        settings = wish.settings
    except CahpError as error:
        st.info(f"This link is for {plain(linked)}, but {plain(str(error))}. {instead}")
    else:
        if wish.files is not None:
            st.info(f"This link is for {plain(linked)}, which no link contains. Upload them to see its view. {instead}")
        else:
            st.info(f"This link is for {plain(linked)}. Opening it reads from a folder or the network. {instead}")
    with st.container(horizontal=True, gap="small"):
        if settings is not None and wish.files is not None:
            if st.button("Upload files", key="bring-files", type="primary") or st.session_state.get(_FILLED) != wish:
                _fill_in(wish)
                st.session_state[_OPEN] = True
        elif settings is not None and st.button("Open it", key="open-wish", type="primary"):
            _open(explorer, settings, None, wish=wish)
        if st.button("Dismiss", key="leave-wish", type="tertiary"):
            data_fields.forget_link()
            _close()
            del st.session_state[WISH]
            st.rerun()


def _fill_in(wish: Wish) -> None:
    """Fill in the dialog from a link; only its files are missing."""
    st.session_state[_FILLED] = wish
    model = wish.fields["model"]
    builtin = model in models.BUILTINS
    st.session_state["source-model"] = model if builtin else _OTHER_MODEL
    if not builtin:
        st.session_state["source-model-name"] = model
    data_fields.fill_in(wish.settings)


def _open(
    explorer: Explorer, settings: Settings, upload: Upload | None, *, agreed: bool = False, wish: Wish | None = None
) -> None:
    """Open a model and data in the background (they may have to be downloaded) and show them when they are ready."""

    def open_source(progress: Progress) -> Source:
        with hub.consent_from(lambda *_: agreed), hub.progress_to(progress):
            return Source.open(settings, upload)

    job = jobs.submit_io(explorer.id, "open", open_source)
    st.session_state[OPENING] = job
    st.session_state.pop(WISH, None)
    st.session_state[_WAITING], st.session_state[_CHOSEN] = wish, agreed
    data_fields.forget_link()
    data_fields.keep_files(upload)
    _close()
    job.wait(3.0)
    st.rerun()


def choose(explorer: Explorer) -> None:
    """Draw the dialog: choose a model and data, check them, and open them."""
    if why := st.session_state.get(_WHY):
        _error(why)
    wish = st.session_state.get(WISH)
    sample: dict[str, Any] = {"limit": explorer.settings.limit, "eval_limit": explorer.settings.eval_limit}
    if wish is not None and wish.files is not None:
        sample = address.read_choices(wish.fields)
        st.caption("Filled in from the link; only its files are missing.")
    try:
        card = _model()
        if card is None:
            return
        settings = replace(bundled.SETTINGS, model=st.session_state["source-model-resolved"], **sample)
        chosen = data_fields.draw(card, settings)
        if chosen is None:
            return
        settings, upload = chosen
        missing = (card.details or {}).get("missing", 0)
        # The label tells the size of the download: pressing it is the consent.
        label = f"Download {size_of(missing)} and use this model and data" if missing else "Use this model and data"
        if st.button(label, type="primary", key="use-source"):
            linked = wish is not None and wish.files is not None and upload is not None
            _open(explorer, settings, upload, agreed=True, wish=wish if linked else None)
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
    name = _model_box() if picked == _OTHER_MODEL else picked
    if not name:
        return None
    # Checked before the look-up, which would tell what exists on this machine.
    name = permitted(replace(bundled.SETTINGS, model=name)).model
    if "/" in name and not is_there(expanded(Path(name)), Path.is_dir) and not data_fields.allow_network(name):
        return None
    card: ModelCard | None = _look_up(name)
    if card is not None and not card.labels and card.language is not None:
        card = prompt_fields.draw(card)
        if card is not None:
            prompt_fields.preview(card)
    if card is None:
        return None
    if not card.labels:
        raise CahpError(f"{explain_missing_classes(card, card.id)}, and open that folder")
    st.caption(
        f"{card.family.upper()}, supported · {card.layers} layers × {card.heads} heads · classes "
        f"{plain(', '.join(card.labels)[:200])} · a default run takes about "
        f"{duration(default_seconds(card))} here"
    )
    st.session_state["source-model-resolved"] = name
    return card


def _look_up(name: str) -> ModelCard:
    """Describe a model without its weights; a model of the hub is looked up once while the dialog names it."""
    last: tuple[str, ModelCard] | None = st.session_state.get(_LOOKED_UP)
    if last is not None and last[0] == name and last[1].revision is not None:
        return last[1]
    card = models.preview(name)
    st.session_state[_LOOKED_UP] = (name, card)
    return card


def _model_box() -> str:
    help = "A folder with config.json, safetensors weights and a tokenizer"
    if current().opens_hub:
        help += ", or org/name[@revision] on the hub. Pickled weights and remote code are refused"
    label, example = ("Folder or id", "org/name, or /path/to/model") if current().opens_hub else ("Folder", None)
    name = st.text_input(label, key="source-model-name", persist_state="session", placeholder=example, help=f"{help}.")
    return str(name).strip()
