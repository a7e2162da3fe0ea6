"""Choosing data: what comes with the model, files that somebody brings, a folder, or the hub; and what is what in them.

Which file is which split, which column is which, and which label is which class are guessed where a guess is harmless,
always shown, and can be changed. What was chosen for some data is never said of the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import streamlit as st

from cahp import data, models
from cahp.access import current
from cahp.cards import ModelCard
from cahp.data.dataset import SPLITS
from cahp.data.parts import MOST_PARTS
from cahp.data.rows import default_columns
from cahp.data.sources import BBC_NEWS, PRESETS
from cahp.files import is_there
from cahp.run.bench import check_texts, label_reading, match_labels
from cahp.run.settings import Settings
from cahp.ui.frame import prompt_fields
from cahp.ui.parts.text import plain
from cahp.ui.session.opening import Upload, permitted
from cahp.values import CahpError, DataError

WITH_MODEL = "What comes with the model"
FILES = "Files of mine (CSV, TSV, JSONL, Parquet)"
ELSEWHERE = "A folder, a preset or hub data…"
_SUFFIXES = ["csv", "tsv", "jsonl", "ndjson", "json", "parquet"]
#: Rows that are shown, and rows that tell which column is which.
_PREVIEW, _TELLING = 5, 50
_CELL = 300
#: Columns that the first rows are shown of.
_MOST_SHOWN = 50
_NOTHING = "(none)"
_UNUSED = "not used"
#: Session keys: the hub data that the dialog looked at last, by name; how a link read its files; and files that are
#: being opened, which the boxes of a closed dialog do not keep.
_FETCHED, _MEANT, _KEPT = "cahp_fetched", "cahp_fields_meant", "cahp_fields_kept"


def draw(card: ModelCard, settings: Settings) -> tuple[Settings, Upload | None] | None:
    """Ask for data for this model; the settings that read them, and what was brought (None: nothing is chosen yet).

    Raises:
        CahpError: If they cannot be used, with the next step.
    """
    builtin = models.BUILTINS.get(settings.model)
    own = [WITH_MODEL] if builtin is not None and builtin.data == BBC_NEWS else []
    # Where the hub is closed but for the presets, nobody types an id: they are listed.
    presets = [] if current().opens_hub else list(PRESETS)
    others = [*presets, *([ELSEWHERE] if current().opens_folders else [])]
    picked = st.selectbox("Data", [*own, FILES, *others], key=f"source-data-{bool(own)}", persist_state="session")
    settings = replace(settings, **prompt_fields.settings(card))
    if picked == WITH_MODEL:
        return settings, None
    if picked == FILES:
        return _files(card, settings)
    name = picked
    if picked == ELSEWHERE:
        name = st.text_input(
            "Folder, file, preset or hub data" if current().opens_hub else "Folder or file",
            key="source-data-name",
            persist_state="session",
            placeholder="/path/to/folder, sst5, mnli, or hub:org/name" if current().opens_hub else "texts.csv",
        ).strip()
        if not name:
            return None
    settings = permitted(replace(settings, data=name))
    found = _elsewhere(card, settings)
    return None if found is None else (found, None)


def fill_in(meant: Settings) -> None:
    """Choose files, to be read as a link has it; they are to be brought."""
    st.session_state[_MEANT] = meant
    for own in (True, False):
        st.session_state[f"source-data-{own}"] = FILES
    prompt_fields.fill_in(meant)
    for what in ("column", "map"):
        st.session_state.pop(f"source-{what}-of", None)


def forget_link() -> None:
    """What a link said of its files is not said of other files."""
    st.session_state.pop(_MEANT, None)


def keep_files(upload: Upload | None) -> None:
    """Keep these files for the dialog, until it is certain that they can be used."""
    st.session_state[_KEPT] = upload


def forget_files() -> None:
    """They are in use, or not wanted any more."""
    st.session_state.pop(_KEPT, None)


def agreed(name: str) -> bool:
    """Whether the person allows the one thing here that may use the network."""
    return bool(
        st.checkbox("Look it up on the hub (uses the network unless it was downloaded before)", key=f"hub-{name}")
    )


def _elsewhere(card: ModelCard, settings: Settings) -> Settings | None:
    name = str(settings.data)
    if name == BBC_NEWS:
        return _matched(data.load(name), card, settings)
    online = name.startswith("hub:") or (name in PRESETS and not is_there(Path(name), Path.is_dir))
    if online and not agreed(name):
        return None
    known: tuple[str, data.Parts] | None = st.session_state.get(_FETCHED)
    # The hub is asked once as long as the dialog names the same; a file may have been corrected in the meantime.
    parts = known[1] if online and known is not None and known[0] == name else data.find(name)
    st.session_state[_FETCHED] = (name, parts) if online else None
    settings = _read_as(parts, card, settings)
    return _matched(parts.read(**settings.columns), card, settings)


def _files(card: ModelCard, settings: Settings) -> tuple[Settings, Upload] | None:
    brought = st.file_uploader(
        "One file with labelled texts, or several: train, validation and test",
        type=_SUFFIXES,
        accept_multiple_files=True,
        key="source-file",
    )
    upload: Upload | None = st.session_state.get(_KEPT)
    if brought:
        upload = _upload(brought)
    elif upload is not None:
        st.caption(f"Still here: {plain(upload.name)}. Bring others in their place.")
    if upload is None:
        st.caption("They stay in this session: nothing of them is kept on disk, logged, or put into a link.")
        return None
    with upload.open() as parts:
        settings = _read_as(parts, card, replace(settings, data=upload.folder))
        matched = _matched(parts.read(**settings.columns), card, settings)
        return None if matched is None else (matched, upload)


def _upload(brought: Sequence[Any]) -> Upload:
    files: dict[str, bytes] = {}
    for one in brought:
        # Two folders may hold files of one name.
        twice = sum(name == one.name or name.endswith(f") {one.name}") for name in files)
        files[f"({twice + 1}) {one.name}" if twice else one.name] = one.getvalue()
    return Upload(files)


# What is what -----------------------------------------------------------------------------------------------------


def _read_as(parts: data.Parts, card: ModelCard, settings: Settings) -> Settings:
    """Settings that say which part is which split, and which column is what, where that is not as usual."""
    splits = {} if parts.divided else _splits(parts)
    train = next((part for part, split in splits.items() if split == "train"), None)
    if train is None and not parts.divided:
        raise DataError("One of these has to serve as train: heads are chosen on it.")
    if splits == {part: split for part, split in parts.splits.items() if split in SPLITS}:
        # As usual: what else is published stays there to be asked for.
        splits = {}
    return replace(settings, splits=splits, **_columns(parts, train or next(iter(parts.tables)), card))


def _splits(parts: data.Parts) -> dict[str, str]:
    """Which part serves as which split."""
    names = sorted(parts.tables, key=lambda part: part not in parts.splits)
    guess = data.guess_splits(parts)
    if len(names) > MOST_PARTS:
        st.caption(f"{len(names):,} files are there; the first {MOST_PARTS} can be chosen here.")
        names = names[:MOST_PARTS]
    _anew("split", names, {str(place): guess.get(part, _UNUSED) for place, part in enumerate(names)})
    chosen: dict[str, str] = {}
    with st.container(key="source-splits"):
        for place, part in enumerate(names):
            split = st.segmented_control(
                plain(part[:60]), (*SPLITS, _UNUSED), key=f"split-{place}", required=True, persist_state="session"
            )
            if split in SPLITS:
                chosen[part] = split
    return chosen


def _columns(parts: data.Parts, part: str, card: ModelCard) -> dict[str, Any]:
    """The first rows of a part, and which column is what (None: as usual)."""
    table = parts.tables[part]()
    names, rows = list(table.columns), table.preview(_TELLING)
    if any(name != _encodable(name) for name in names):
        raise DataError(f"A column's name in {part} is not valid Unicode; rename that column.")
    shown = {name: [_encodable(row[name][:_CELL]) for row in rows[:_PREVIEW]] for name in names[:_MOST_SHOWN]}
    st.dataframe(shown, hide_index=True)
    guess = _meant_columns(names) or data.guess_columns(names, rows, card.labels)
    others = [_NOTHING, *names]
    _anew("column", (part, names), {"text": guess.text, "pair": guess.pair or _NOTHING, "label": guess.label})
    left, middle, right = st.columns(3)
    text = left.selectbox("Text", names, key="column-text", persist_state="session")
    second = middle.selectbox("Second text", others, key="column-pair", persist_state="session")
    label = right.selectbox("Label", names, key="column-label", persist_state="session")
    chosen = data.Columns(text, None if second == _NOTHING else second, label)
    if chosen == default_columns(names):
        chosen = data.Columns()
    return {"text_column": chosen.text, "pair_column": chosen.pair, "label_column": chosen.label}


def _meant_columns(names: list[str]) -> data.Columns | None:
    """The columns that a link names, if they are there."""
    meant: Settings | None = st.session_state.get(_MEANT)
    if meant is None or meant.text_column is None or meant.label_column is None:
        return None
    columns = data.Columns(meant.text_column, meant.pair_column, meant.label_column)
    return columns if {columns.text, columns.label, columns.pair or columns.text} <= set(names) else None


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


# Whose label is whose -----------------------------------------------------------------------------------------------


def _matched(found: data.Dataset, card: ModelCard, settings: Settings) -> Settings | None:
    """Settings with the labels matched, by name or by hand (None: not all of them are matched yet).

    Raises:
        CahpError: If they cannot be.
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
        by_hand = _by_hand(found.classes, card.labels)
        return None if by_hand is None else replace(settings, label_map=by_hand)
    reading = label_reading(found, matched)
    said = [ours if card.prompt is None else f"{ours} = {theirs}" for ours, theirs in reading.items()]
    st.caption(f"Labels match: {plain(', '.join(said)[:200])}")
    return settings


def _by_hand(ours: tuple[str, ...], theirs: tuple[str, ...]) -> dict[str, str] | None:
    chosen: dict[str, Any] = {}
    alike = {name.strip().casefold(): name for name in theirs}
    meant: Settings | None = st.session_state.get(_MEANT)
    linked = {} if meant is None else {said: goal for said, goal in meant.label_map.items() if goal in theirs}
    usual = {str(place): linked.get(label, alike.get(label.strip().casefold())) for place, label in enumerate(ours)}
    _anew("map", (ours, theirs), usual)
    for position, label in enumerate(ours):
        chosen[label] = st.selectbox(
            plain(label[:60]),
            theirs,
            index=None,
            key=f"map-{position}",
            persist_state="session",
            placeholder="which class of the model?",
        )
    if any(goal is None for goal in chosen.values()):
        st.caption("Every label of the data needs a class of the model before this data can be used.")
        return None
    return chosen
