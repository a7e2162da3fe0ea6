"""Choosing a model and data: built in, from the hub, a folder, or files that somebody brings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import streamlit as st

from cahp import bundled, hub, models
from cahp.access import current
from cahp.files import expanded, is_there
from cahp.models.language import without_classes
from cahp.run.settings import Settings
from cahp.tasks import inspect as preflight
from cahp.ui.frame import data_fields, prompt_fields
from cahp.ui.frame.address import Wish
from cahp.ui.parts.text import plain
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import Source, Upload, permitted
from cahp.values import CahpError, ModelCard, Progress
from cahp.words import duration, size_of

#: Keys of the session: the job that opens a model and data, and what a link wished for.
OPENING, WISH = "cahp_opening", "cahp_wish"
_LOOKED = "cahp_looked"

_OTHER_MODEL = "A folder or a Hugging Face id…"


def door(explorer: Explorer) -> None:
    """The way to other models and data, and what a link wished for."""
    wish = st.session_state.get(WISH)
    if wish is not None:
        _offer(explorer, wish)
    if st.button("Change model or data", key="change-source", type="tertiary"):
        _dialog(explorer)


def _offer(explorer: Explorer, wish: Wish) -> None:
    """Offer what a link wished for, or say why it cannot be had."""
    asked = f"{wish.model} on {wish.data}" if wish.data else wish.model
    if wish.prompt is not None:
        asked += f", asked “{wish.prompt[:200]}”"
    try:
        settings = wish.settings
        permitted(settings)
    except CahpError as error:
        st.info(f"This link asks for {plain(asked)}, but {plain(str(error))}.")
        return
    st.info(f"This link asks for {plain(asked)}. Opening it reads from a folder or the network.")
    if st.button("Open it", key="open-wish"):
        del st.session_state[WISH]
        _open(explorer, settings, None)


def _open(explorer: Explorer, settings: Settings, upload: Upload | None, *, agreed: bool = False) -> None:
    """Open beside the worker (a hub model may have to be downloaded) and show it when it is there."""

    def opened(progress: Progress) -> Source:
        with hub.asking(lambda *_: agreed), hub.reporting(progress):
            return Source.open(settings, upload)

    job = jobs.submit_aside(explorer.id, "open", opened)
    st.session_state[OPENING] = job
    job.wait(3.0)
    st.rerun()


def _dialog(explorer: Explorer) -> None:
    st.dialog("Model and data", width="medium")(choose)(explorer)


def choose(explorer: Explorer) -> None:
    """Choose a model and data, see what they are and what a run would take, and open them."""
    settings = replace(bundled.SETTINGS, limit=explorer.settings.limit, eval_limit=explorer.settings.eval_limit)
    try:
        card = _model()
        if card is None:
            return
        chosen = data_fields.draw(card, replace(settings, model=st.session_state["source-model-resolved"]))
        if chosen is None:
            return
        settings, upload = chosen
        missing = (card.details or {}).get("missing", 0)
        words = f"Fetch {size_of(missing)} and use this model and data" if missing else "Use this model and data"
        if st.button(words, type="primary", key="use-source"):
            # Its words say how much is fetched.
            _open(explorer, settings, upload, agreed=True)
    except CahpError as error:
        sentence = plain(str(error))
        st.error(sentence[:1].upper() + sentence[1:])


def _model() -> ModelCard | None:
    ready = [name for name, builtin in models.BUILTINS.items() if builtin.adapter is not None]
    words = {name: models.BUILTINS[name].description for name in ready}
    picked = st.selectbox(
        "Model",
        [*ready, *([_OTHER_MODEL] if current().opens_folders else [])],
        format_func=lambda name: words.get(name, name),
        key="source-model",
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
    took = f" · a default run takes about {duration(preflight.default_seconds(card))} here"
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
                placeholder="textattack/bert-base-uncased-SST-2, or /path/to/model",
                help=f"{needed}, or org/name[@revision] on the hub. Pickled weights and remote code are refused.",
            )
        ).strip()
    return str(st.text_input("Folder", key="source-model-name", help=f"{needed}.")).strip()
