"""Boxes for the data: built-in, uploaded files, a folder, or the hub; and the roles of files, columns and labels.

Splits, columns and labels are guessed where a wrong guess does no harm. A guess is always shown and can be changed.
Choices for one data set are not applied to the next.
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
from cahp.ui.parts.display import plain
from cahp.ui.session.opening import Upload, permitted
from cahp.values import CahpError, DataError

WITH_MODEL = "The model's own data"
FILES = "My files (CSV, TSV, JSONL, Parquet)"
ELSEWHERE = "A folder, a preset or hub data…"
_SUFFIXES = ["csv", "tsv", "jsonl", "ndjson", "json", "parquet"]
#: Rows, columns and characters of a cell that are shown; and rows from which the columns' roles are guessed.
_SHOWN_ROWS, _SHOWN_COLUMNS, _SHOWN_CHARACTERS, _GUESS_ROWS = 5, 50, 300, 50
_NONE = "(none)"
_UNUSED = "not used"
#: Session keys: the hub data that was looked up last; a link's settings for its files; and uploaded files that are
#: being opened, which the boxes of a closed dialog do not keep.
_LOOKED_UP, _LINKED, _UPLOADED = "cahp_fetched", "cahp_fields_meant", "cahp_fields_kept"


def draw(card: ModelCard, settings: Settings) -> tuple[Settings, Upload | None] | None:
    """Draw the boxes and return the settings for the data, and the upload if there is one (None: no choice yet).

    Raises:
        CahpError: If the data cannot be used.
    """
    builtin = models.BUILTINS.get(settings.model)
    own = [WITH_MODEL] if builtin is not None and builtin.data == BBC_NEWS else []
    # Without access to the whole hub, presets are listed instead of a box for ids.
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
    matched = _elsewhere(card, settings)
    return None if matched is None else (matched, None)


def fill_in(linked: Settings) -> None:
    """Choose uploaded files with the settings of a link; the files are still missing."""
    st.session_state[_LINKED] = linked
    for own in (True, False):
        st.session_state[f"source-data-{own}"] = FILES
    prompt_fields.fill_in(linked)
    for kind in ("column", "map"):
        st.session_state.pop(f"source-{kind}-of", None)


def forget_link() -> None:
    """Forget a link's settings, so that they are not applied to other files."""
    st.session_state.pop(_LINKED, None)


def keep_files(upload: Upload | None) -> None:
    """Keep uploaded files for the dialog until they are open; None forgets them."""
    st.session_state[_UPLOADED] = upload


def allow_network(name: str) -> bool:
    """Draw the box that allows a look-up on the hub; return whether it is checked."""
    return bool(
        st.checkbox("Look it up on the hub (uses the network unless it was downloaded before)", key=f"hub-{name}")
    )


def _elsewhere(card: ModelCard, settings: Settings) -> Settings | None:
    name = str(settings.data)
    if name == BBC_NEWS:
        return _match_labels(data.load(name), card, settings)
    online = name.startswith("hub:") or (name in PRESETS and not is_there(Path(name), Path.is_dir))
    if online and not allow_network(name):
        return None
    last: tuple[str, data.Parts] | None = st.session_state.get(_LOOKED_UP)
    # The hub is asked once while the dialog names the same data; a file may have changed in the meantime.
    parts = last[1] if online and last is not None and last[0] == name else data.find(name)
    st.session_state[_LOOKED_UP] = (name, parts) if online else None
    settings = _assign_roles(parts, card, settings)
    return _match_labels(parts.read(**settings.columns), card, settings)


def _files(card: ModelCard, settings: Settings) -> tuple[Settings, Upload] | None:
    uploaded = st.file_uploader(
        "One file with labelled texts, or separate files for train, validation and test",
        type=_SUFFIXES,
        accept_multiple_files=True,
        key="source-file",
    )
    upload: Upload | None = st.session_state.get(_UPLOADED)
    if uploaded:
        upload = _upload(uploaded)
    elif upload is not None:
        st.caption(f"Uploaded before: {plain(upload.name)}. Upload other files to replace them.")
    if upload is None:
        st.caption("Files stay in this session: they are not stored on disk, logged, or put into a link.")
        return None
    with upload.open() as parts:
        settings = _assign_roles(parts, card, replace(settings, data=upload.folder))
        matched = _match_labels(parts.read(**settings.columns), card, settings)
        return None if matched is None else (matched, upload)


def _upload(uploaded: Sequence[Any]) -> Upload:
    files: dict[str, bytes] = {}
    for file in uploaded:
        # Files of two folders may have the same name.
        same = sum(name == file.name or name.endswith(f") {file.name}") for name in files)
        files[f"({same + 1}) {file.name}" if same else file.name] = file.getvalue()
    return Upload(files)


# Roles of files and columns -----------------------------------------------------------------------------------------


def _assign_roles(parts: data.Parts, card: ModelCard, settings: Settings) -> Settings:
    """Return the settings with the split of each part and the role of each column; defaults are left out."""
    splits = {} if parts.divided else _splits(parts)
    train = next((part for part, split in splits.items() if split == "train"), None)
    if train is None and not parts.divided:
        raise DataError("No file is marked as train. Mark one: heads are chosen on it.")
    if splits == {part: split for part, split in parts.splits.items() if split in SPLITS}:
        # The parts are split by default; other parts of the data stay available.
        splits = {}
    return replace(settings, splits=splits, **_columns(parts, train or next(iter(parts.tables)), card))


def _splits(parts: data.Parts) -> dict[str, str]:
    """Draw a choice of the split for each part."""
    names = sorted(parts.tables, key=lambda part: part not in parts.splits)
    guess = data.guess_splits(parts)
    if len(names) > MOST_PARTS:
        st.caption(f"There are {len(names):,} files; the first {MOST_PARTS} can be chosen here.")
        names = names[:MOST_PARTS]
    _reset_choices("split", names, {str(place): guess.get(part, _UNUSED) for place, part in enumerate(names)})
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
    """Show the first rows of a part with a choice of columns; return the settings of the columns (None: default)."""
    table = parts.tables[part]()
    names, rows = list(table.columns), table.preview(_GUESS_ROWS)
    if any(name != _encodable(name) for name in names):
        raise DataError(f"A column name in {part} is not valid Unicode. Rename the column.")
    first = rows[:_SHOWN_ROWS]
    shown = {name: [_encodable(row[name][:_SHOWN_CHARACTERS]) for row in first] for name in names[:_SHOWN_COLUMNS]}
    st.dataframe(shown, hide_index=True)
    guess = _linked_columns(names) or data.guess_columns(names, rows, card.labels)
    others = [_NONE, *names]
    _reset_choices("column", (part, names), {"text": guess.text, "pair": guess.pair or _NONE, "label": guess.label})
    left, middle, right = st.columns(3)
    text = left.selectbox("Text", names, key="column-text", persist_state="session")
    second = middle.selectbox("Second text", others, key="column-pair", persist_state="session")
    label = right.selectbox("Label", names, key="column-label", persist_state="session")
    chosen = data.Columns(text, None if second == _NONE else second, label)
    if chosen == default_columns(names):
        chosen = data.Columns()
    return {"text_column": chosen.text, "pair_column": chosen.pair, "label_column": chosen.label}


def _linked_columns(names: list[str]) -> data.Columns | None:
    """Return the columns that a link names, if the file has them."""
    linked: Settings | None = st.session_state.get(_LINKED)
    if linked is None or linked.text_column is None or linked.label_column is None:
        return None
    columns = data.Columns(linked.text_column, linked.pair_column, linked.label_column)
    return columns if {columns.text, columns.label, columns.pair or columns.text} <= set(names) else None


def _encodable(text: str) -> str:
    """Replace halves of surrogate pairs, which JSON can contain and a page cannot show."""
    return text.encode(errors="replace").decode()


def _reset_choices(kind: str, subject: Any, defaults: Mapping[str, Any]) -> None:
    """Set choices of this kind to their defaults if their subject changed, such as the file."""
    last = f"source-{kind}-of"
    changed = st.session_state.get(last) != subject
    st.session_state[last] = subject
    for name, value in defaults.items():
        key = f"{kind}-{name}"
        if changed or key not in st.session_state:
            st.session_state[key] = value


# Labels -------------------------------------------------------------------------------------------------------------


def _match_labels(dataset: data.Dataset, card: ModelCard, settings: Settings) -> Settings | None:
    """Return the settings with all labels matched, by name or by hand (None: some are not matched yet).

    Raises:
        CahpError: If they cannot be matched.
    """
    for notice in dataset.notices[:4]:
        st.caption(plain(notice))
    check_texts(dataset, card)
    prompt_fields.preview(card, next(iter(dataset.splits.values())).inputs[0])
    try:
        matched = match_labels(dataset, settings, card)
    except CahpError as error:
        if len(dataset.classes) > 20:
            raise
        st.warning(plain(str(error).partition(": none of")[0]) + ". Match your labels to the model's classes:")
        by_hand = _match_by_hand(dataset.classes, card.labels)
        return None if by_hand is None else replace(settings, label_map=by_hand)
    classes = label_reading(dataset, matched)
    pairs = [label if card.prompt is None else f"{label} = {name}" for label, name in classes.items()]
    st.caption(f"Labels match: {plain(', '.join(pairs)[:200])}")
    return settings


def _match_by_hand(labels: tuple[str, ...], classes: tuple[str, ...]) -> dict[str, str] | None:
    chosen: dict[str, Any] = {}
    alike = {name.strip().casefold(): name for name in classes}
    settings: Settings | None = st.session_state.get(_LINKED)
    linked = {} if settings is None else {label: name for label, name in settings.label_map.items() if name in classes}
    defaults = {str(at): linked.get(label, alike.get(label.strip().casefold())) for at, label in enumerate(labels)}
    _reset_choices("map", (labels, classes), defaults)
    for position, label in enumerate(labels):
        chosen[label] = st.selectbox(
            plain(label[:60]),
            classes,
            index=None,
            key=f"map-{position}",
            persist_state="session",
            placeholder="Class of the model",
        )
    if any(name is None for name in chosen.values()):
        st.caption("Choose a class of the model for every label.")
        return None
    return chosen
