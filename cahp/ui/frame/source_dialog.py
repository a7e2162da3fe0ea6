"""Choosing a model and data: built in, from the hub, a folder, or a file that somebody brings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import streamlit as st

from cahp import bundled, data, hub, models
from cahp.access import current
from cahp.data.rawsplit import LABEL_COLUMN, TEXT_COLUMNS
from cahp.data.sources import PRESETS
from cahp.data.tables import read_table
from cahp.files import expanded, is_there, scratch
from cahp.models.language import without_classes
from cahp.run.bench import check_texts, label_reading, match_labels
from cahp.run.settings import Settings
from cahp.tasks import inspect as preflight
from cahp.ui.frame import prompt_fields
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
_WITH_MODEL = "What comes with the model"
_FILE = "A file of mine (CSV, TSV, JSONL, Parquet)"
_OTHER_DATA = "A folder, a preset or hub data…"
_SUFFIXES = ["csv", "tsv", "jsonl", "ndjson", "json", "parquet"]
_PREVIEW = 5
_CELL = 300
#: Columns that the first rows are shown of.
_MOST_SHOWN = 50


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
        chosen = _data(card, settings)
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
    if "/" in name and not is_there(expanded(Path(name)), Path.is_dir) and not _agreed(name):
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


def _agreed(name: str) -> bool:
    """Whether the person allows the one thing here that may use the network."""
    return bool(
        st.checkbox("Look it up on the hub (uses the network unless it was downloaded before)", key=f"hub-{name}")
    )


def _data(card: ModelCard, settings: Settings) -> tuple[Settings, Upload | None] | None:
    name = st.session_state["source-model-resolved"]
    builtin = models.BUILTINS.get(name)
    own = [_WITH_MODEL] if builtin is not None and builtin.data == "bbc-news" else []
    # Where the hub is closed but for the presets, nobody types an id: they are listed.
    presets = [] if current().opens_hub else list(PRESETS)
    others = [*presets, *([_OTHER_DATA] if current().opens_folders else [])]
    picked = st.selectbox("Data", [*own, _FILE, *others], key=f"source-data-{bool(own)}")
    settings = replace(settings, model=name, **prompt_fields.settings(card))
    if picked == _WITH_MODEL:
        return settings, None
    if picked == _FILE:
        return _file(card, settings)
    where = picked
    if picked == _OTHER_DATA:
        where = st.text_input(
            "Folder, file, preset or hub data" if current().opens_hub else "Folder or file",
            key="source-data-name",
            placeholder="/path/to/folder, sst5, mnli, or hub:org/name" if current().opens_hub else "texts.csv",
        ).strip()
        if not where:
            return None
    settings = permitted(replace(settings, data=where))
    where = str(settings.data)
    online = where.startswith("hub:") or (where in PRESETS and not is_there(Path(where), Path.is_dir))
    if online and not _agreed(where):
        return None
    return _matched(data.load(where), card, settings), None


def _file(card: ModelCard, settings: Settings) -> tuple[Settings, Upload] | None:
    brought = st.file_uploader("File with labelled texts", type=_SUFFIXES, key="source-file")
    if brought is None:
        st.caption("It stays in this session: nothing of it is kept on disk, logged, or put into a link.")
        return None
    upload = Upload(brought.name, brought.getvalue())
    columns = _columns(upload)
    settings = replace(settings, data=upload.name, **columns)
    return _matched(upload.read(settings), card, settings), upload


def _columns(upload: Upload) -> dict[str, Any]:
    """The first rows, and which column is what."""
    with scratch() as folder:
        path = upload.path_in(folder)
        try:
            table = read_table(path)
            names, rows = list(table.columns), table.preview(_PREVIEW)
        except CahpError as error:
            raise CahpError(str(error).replace(str(path), upload.name)) from None
    if any(name != _encodable(name) for name in names):
        raise CahpError(f"A column's name in {upload.name} is not valid Unicode; rename that column.")
    shown = {name: [_encodable(row[name][:_CELL]) for row in rows] for name in names[:_MOST_SHOWN]}
    st.dataframe(shown, hide_index=True)
    guess_text, guess_pair, guess_label = _guess(names)
    nothing = "(none)"
    others = [nothing, *names]
    _anew("column", names, {"text": names[guess_text], "pair": others[guess_pair], "label": names[guess_label]})
    left, middle, right = st.columns(3)
    text = left.selectbox("Text", names, key="column-text")
    pair = middle.selectbox("Second text", others, key="column-pair")
    label = right.selectbox("Label", names, key="column-label")
    return {"text_column": text, "pair_column": None if pair == nothing else pair, "label_column": label}


def _encodable(text: str) -> str:
    """The text without halves of surrogate pairs, which JSON can write and no page can show."""
    return text.encode(errors="replace").decode()


def _anew(what: str, of: Any, usual: Mapping[str, Any]) -> None:
    """Give choices their usual values where they are about something else than before.

    What was chosen for one file must not silently be said of the next.
    """
    about = f"source-{what}-of"
    other = st.session_state.get(about) != of
    st.session_state[about] = of
    for name, value in usual.items():
        key = f"{what}-{name}"
        if other or key not in st.session_state:
            st.session_state[key] = value


def _guess(names: list[str]) -> tuple[int, int, int]:
    """Positions of the likely text, of the likely second text (1-based, 0: none), and of the likely label."""
    low = [name.lower() for name in names]
    label = low.index(LABEL_COLUMN) if LABEL_COLUMN in low else len(names) - 1
    for text, pair in TEXT_COLUMNS:
        if text in low and (pair is None or pair in low):
            return low.index(text), 0 if pair is None else low.index(pair) + 1, label
    return 0, 0, label


def _matched(found: data.Dataset, card: ModelCard, settings: Settings) -> Settings:
    """Settings with the labels matched, by name or by hand.

    Raises:
        DataError: If they are not matched yet.
    """
    for notice in found.notices[:4]:
        st.caption(plain(notice))
    check_texts(found, card)
    prompt_fields.preview(card, next(iter(found.splits.values())).inputs[0])
    try:
        matched = match_labels(found, settings, card)
    except CahpError as error:
        if len(found.classes) > 20:
            raise
        st.warning(plain(str(error).partition(": none of")[0]) + ". Say which is which:")
        return replace(settings, label_map=_by_hand(found.classes, card.labels))
    reading = label_reading(found, matched)
    said = [ours if card.prompt is None else f"{ours} = {theirs}" for ours, theirs in reading.items()]
    st.caption(f"Labels match: {plain(', '.join(said)[:200])}")
    return settings


def _by_hand(ours: tuple[str, ...], theirs: tuple[str, ...]) -> dict[str, str]:
    chosen: dict[str, Any] = {}
    alike = {name.strip().casefold(): name for name in theirs}
    usual = {str(place): alike.get(label.strip().casefold()) for place, label in enumerate(ours)}
    _anew("map", (ours, theirs), usual)
    for position, label in enumerate(ours):
        chosen[label] = st.selectbox(
            plain(label[:60]), theirs, index=None, key=f"map-{position}", placeholder="which class of the model?"
        )
    if any(goal is None for goal in chosen.values()):
        raise CahpError("Every label of the data needs a class of the model before this data can be used.")
    return chosen
