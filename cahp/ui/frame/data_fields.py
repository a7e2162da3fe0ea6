"""Boxes for the data: built-in, pasted or uploaded texts, a folder, or the hub; and the roles of their parts.

Splits, columns and labels are guessed where a wrong guess does no harm. A guess is always shown and can be changed.
Choices for one data set are not applied to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import streamlit as st

from cahp import data, models
from cahp.access import current
from cahp.data.dataset import MOST_PARTS, NO_LABELS, SPLITS, default_columns
from cahp.data.sources import BBC_NEWS, PRESETS
from cahp.data.tables import READERS, RowTable
from cahp.files import is_there
from cahp.models.cards import ModelCard
from cahp.run.settings import Settings, describe
from cahp.run.texts import check_texts, label_reading, match_labels
from cahp.ui.frame.address import Wish
from cahp.ui.parts.display import plain
from cahp.ui.session.opening import Upload, permitted
from cahp.values import CahpError, DataError, Input
from cahp.words import capital

T = TypeVar("T")

WITH_MODEL = "The model's own data"
FILES = "My files (text, CSV, TSV, JSONL, Parquet)"
PASTED = "My text, pasted here"
ELSEWHERE = "A folder, a preset or hub data…"
_SUFFIXES = [suffix.removeprefix(".") for suffix in READERS]
#: The name of pasted text.
_PASTED_FILE = "pasted.txt"
#: Rows, columns and characters of a cell that are shown.
_SHOWN_ROWS = 5
_SHOWN_COLUMNS = 50
_SHOWN_CHARACTERS = 300
#: Rows from which the columns' roles are guessed.
_GUESS_ROWS = 50
#: Characters that are shown from both ends of a long prompt.
_SHOWN_PROMPT = 600
#: Labels that are matched by hand at most, and pairs of them that a button lists.
_MOST_MATCHED = 20
_MOST_PAIRS = 6
_UNUSED = "not used"


@dataclass
class DialogState:
    """The state of the dialog in a session, beside its boxes."""

    is_open: bool = False
    #: Why the last choice failed to open.
    failure: str | None = None
    #: The link that is being opened (None: a choice in the dialog).
    opening: Wish | None = None
    #: Uploaded files that are being opened, which boxes that are not drawn do not keep.
    upload: Upload | None = None
    #: What was looked up on the hub, by its kind and name.
    hub_answers: dict[tuple[str, str], Any] = field(default_factory=dict)


def dialog_state() -> DialogState:
    """Return the state of the dialog in this session."""
    return st.session_state.setdefault("cahp_dialog", DialogState())  # type: ignore[no-any-return]


def draw(card: ModelCard, settings: Settings) -> tuple[Settings, Upload | None] | None:
    """Draw the boxes and return the settings for the data, and the upload if there is one (None: no choice yet).

    Raises:
        CahpError: If the data cannot be used.
    """
    picked = _choose_data(settings.model)
    if picked == WITH_MODEL:
        return settings, None
    upload: Upload | None = None
    if picked in (FILES, PASTED):
        upload = draw_upload("source-file") if picked == FILES else _paste()
        if upload is None:
            return None
        with upload.open() as parts:
            matched = _assign_roles(parts, card, settings)
    else:
        name = picked
        if picked == ELSEWHERE:
            name = _type_data_name()
        if not name:
            return None
        matched = _match_named(card, permitted(replace(settings, data=name)))
    if matched is None:
        return None
    return matched, upload


def _choose_data(model: str) -> str:
    """Draw the choice of data, and return the chosen row."""
    builtin = models.BUILTINS.get(model)
    offered = [FILES, PASTED]
    has_own = builtin is not None and builtin.data == BBC_NEWS
    if has_own:
        offered.insert(0, WITH_MODEL)
    if current().public:
        # Without access to the whole hub, presets are listed instead of a box for ids.
        offered += PRESETS
    if current().opens_folders:
        offered.append(ELSEWHERE)
    return str(st.selectbox("Data", offered, key=f"source-data-{has_own}", persist_state="session"))


def _type_data_name() -> str:
    """Draw the box for a folder, a file or data on the hub; return its content."""
    label = "Folder, file, preset or hub data"
    example = "/path/to/folder, sst5, mnli, or hub:org/name"
    if current().public:
        label = "Folder or file"
        example = "texts.csv"
    name: str = st.text_input(label, key="source-data-name", persist_state="session", placeholder=example)
    return name.strip()


def _match_named(card: ModelCard, settings: Settings) -> Settings | None:
    """Find the data that ``settings`` name, and return the settings with all roles and labels (None: not yet)."""
    name = str(settings.data)
    if name == BBC_NEWS:
        return _match_labels(data.load(name), card, settings)
    if name.startswith("hub:") or (name in PRESETS and not is_there(Path(name), Path.is_dir)):
        parts = look_up_on_hub("data", name, data.find)
    else:
        parts = data.find(name)
    if parts is None:
        return None
    return _assign_roles(parts, card, settings)


def look_up_on_hub(kind: str, name: str, find: Callable[[str], T]) -> T | None:
    """Draw the box that allows a look-up on the hub, and return what is there (None: not allowed yet).

    The hub is asked once in a session.
    """
    if not st.checkbox("Look it up on the hub (uses the network unless it was downloaded before)", key=f"hub-{name}"):
        return None
    answers = dialog_state().hub_answers
    if (kind, name) not in answers:
        answers[kind, name] = find(name)
    return answers[kind, name]  # type: ignore[no-any-return]


def _paste() -> Upload | None:
    """Draw the box for text, and return it as a file (None: it is empty)."""
    text = st.text_area(
        "Paragraphs with blank lines between them",
        key="source-pasted",
        height=200,
        persist_state="session",
        help="Heads are chosen on 70 % of the paragraphs and evaluated on others. Without labels, a classifier's own "
        "predictions serve as classes, and agreement and KL divergence replace accuracy.",
    )
    st.caption("The text stays in this session: it is not stored on disk, logged, or put into a link.")
    if not text.strip():
        return None
    return Upload({_PASTED_FILE: text.encode(errors="replace")})


def draw_upload(key: str) -> Upload | None:
    """Draw the box for files and return them, or those that failed to open (None: no files yet).

    Raises:
        DataError: If there are too many files.
    """
    uploaded = st.file_uploader(
        "One file with texts, or separate files for train, validation and test",
        type=_SUFFIXES,
        accept_multiple_files=True,
        key=key,
    )
    upload = dialog_state().upload
    if uploaded:
        files: dict[str, bytes] = {}
        for file in uploaded:
            # Files of two folders may have the same name.
            same = sum(name == file.name or name.endswith(f") {file.name}") for name in files)
            name = file.name
            if same:
                name = f"({same + 1}) {name}"
            files[name] = file.getvalue()
        return Upload(files)
    if upload is None:
        st.caption("Files stay in this session: they are not stored on disk, logged, or put into a link.")
    else:
        st.caption(f"Uploaded before: {plain(upload.name)}. Upload other files to replace them.")
    return upload


# Roles of files and columns -----------------------------------------------------------------------------------------


def _assign_roles(parts: data.Parts, card: ModelCard, settings: Settings) -> Settings | None:
    """Return the settings with the split of each part, the role of each column and the labels; defaults are left out.

    None: some labels are not matched yet.
    """
    splits: dict[str, str] = {}
    if parts.divided:
        part = next(iter(parts.tables))
    else:
        splits = _splits(parts)
        train = [name for name, split in splits.items() if split == "train"]
        if not train:
            raise DataError("No file is marked as train. Mark one; the heads are selected on it.")
        part = train[0]
    if splits == {name: split for name, split in parts.splits.items() if split in SPLITS}:
        # The parts are split by default; other parts of the data stay available.
        splits = {}
    documents = _documents(part, parts.tables[part])
    table = parts.tables[part]()
    if documents == "line":
        table = table.by_line()
    columns = _columns(table, part, card)
    settings = replace(
        settings,
        splits=splits,
        documents=documents,
        text_column=columns.text,
        pair_column=columns.pair,
        label_column=columns.label,
    )
    return _match_labels(parts.read(**settings.columns), card, settings)


def _splits(parts: data.Parts) -> dict[str, str]:
    """Draw a choice of the split for each part."""
    names = sorted(parts.tables, key=lambda part: part not in parts.splits)
    guess = data.guess_splits(parts)
    if len(names) > MOST_PARTS:
        st.caption(f"The first {MOST_PARTS} of {len(names):,} files are listed.")
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


def _documents(part: str, table: Callable[[], RowTable]) -> Literal["paragraph", "line"]:
    """Draw a choice of the documents of a text file, lines at first if it is one paragraph; other files have none."""
    if not part.lower().endswith(".txt"):
        return "paragraph"
    default = "line"
    if len(table().preview(2)) > 1:
        default = "paragraph"
    _reset_choices("source", (part, default), {"documents": default})
    chosen = st.segmented_control(
        "Each document is a",
        describe()["documents"].choices,
        key="source-documents",
        required=True,
        persist_state="session",
    )
    return "line" if chosen == "line" else "paragraph"


def _columns(table: RowTable, part: str, card: ModelCard) -> data.Columns:
    """Show the first rows of a part with a choice of columns, and return it (None in each place: the default)."""
    names = list(table.columns)
    rows = table.preview(_GUESS_ROWS)
    if any(name != _encodable(name) for name in names):
        raise DataError(f"A column name in {part} is not valid Unicode. Rename the column.")
    shown = {}
    for name in names[:_SHOWN_COLUMNS]:
        shown[name] = [_encodable(row[name][:_SHOWN_CHARACTERS]) for row in rows[:_SHOWN_ROWS]]
    st.dataframe(shown, hide_index=True)
    chosen = data.Columns(names[0], None, NO_LABELS)
    if len(names) > 1:
        guess = data.guess_columns(names, rows)
        roles = {"text": guess.text, "pair": guess.pair or NO_LABELS, "label": guess.label or NO_LABELS}
        _reset_choices("column", (part, names), roles)
        left, middle, right = st.columns(3)
        text = left.selectbox("Text", names, key="column-text", persist_state="session")
        # A column serves once.
        second = middle.selectbox(
            "Second text", _others(names, text, "pair"), key="column-pair", persist_state="session"
        )
        label = right.selectbox(
            "Label", _others(names, text, "label", second), key="column-label", persist_state="session"
        )
        pair = None
        if second != NO_LABELS:
            pair = second
        chosen = data.Columns(text, pair, label)
    usual = default_columns(names)
    if usual and chosen == replace(usual, label=usual.label or NO_LABELS):
        return data.Columns()
    return chosen


def _others(names: list[str], text: str, role: str, second: str = NO_LABELS) -> list[str]:
    """Return the columns that can still have a role; a chosen one that cannot is no longer chosen."""
    others = [NO_LABELS, *(name for name in names if name not in (text, second))]
    if st.session_state[f"column-{role}"] not in others:
        st.session_state[f"column-{role}"] = NO_LABELS
    return others


def _encodable(text: str) -> str:
    """Replace halves of surrogate pairs, which JSON can contain and a page cannot show."""
    return text.encode(errors="replace").decode()


def _reset_choices(kind: str, subject: Any, defaults: Mapping[str, Any]) -> None:
    """Set choices of this kind to their defaults if their subject changed, such as the file."""
    last = f"source-{kind}-of"
    changed = st.session_state.get(last) != subject
    st.session_state[last] = subject
    _set_choices(
        kind, {name: value for name, value in defaults.items() if changed or f"{kind}-{name}" not in st.session_state}
    )


def _set_choices(kind: str, values: Mapping[str, Any]) -> None:
    """Set choices of this kind, before their boxes are drawn."""
    for name, value in values.items():
        st.session_state[f"{kind}-{name}"] = value


# Labels and prompts -------------------------------------------------------------------------------------------------


def _match_labels(dataset: data.Dataset, card: ModelCard, settings: Settings) -> Settings | None:
    """Return the settings with all labels matched, by name or by hand (None: some are not matched yet).

    Raises:
        CahpError: If they cannot be matched.
    """
    for notice in dataset.notices[:4]:
        st.caption(plain(capital(notice)))
    check_texts(dataset, card)
    preview_prompt(card, next(iter(dataset.splits.values())).plain_inputs[0])
    if not card.task.items_are_texts:
        st.caption(f"The texts are joined and cut into {card.words.measured}. {capital(card.words.without_labels)}.")
        return settings
    if not dataset.labelled:
        st.caption(f"No labels: {card.words.without_labels}.")
        return settings
    try:
        matched = match_labels(dataset, settings, card)
    except CahpError as error:
        if len(dataset.classes) > _MOST_MATCHED:
            raise DataError(
                f"The label column has {len(dataset.classes):,} different values, which are not the classes of the "
                "model. Choose another label column, or (none) for texts without labels."
            ) from error
        st.markdown("Match your labels to the model's classes:")
        by_hand = _match_by_hand(dataset.classes, card.labels)
        if by_hand is None:
            return None
        return replace(settings, label_map=by_hand)
    classes = label_reading(dataset, matched)
    pairs = list(classes)
    if card.prompt is not None:
        pairs = [f"{label} = {name}" for label, name in classes.items()]
    st.caption(f"Labels match: {plain(', '.join(pairs)[:200])}")
    return settings


def _match_by_hand(labels: tuple[str, ...], classes: tuple[str, ...]) -> dict[str, str] | None:
    # Numbers are no names: 1 of 1 to 5 is not 1 of 0 to 4.
    numbered = all(label.isdecimal() for label in labels)
    alike = {}
    if not numbered:
        alike = {name.strip().casefold(): name for name in classes}
    defaults = {str(position): alike.get(label.strip().casefold()) for position, label in enumerate(labels)}
    _reset_choices("map", (labels, classes), defaults)
    if numbered and len(labels) == len(classes):
        pairs = [f"{label} → {name}" for label, name in zip(labels, classes, strict=True)]
        shown = ", ".join(pairs)
        if len(pairs) > _MOST_PAIRS:
            shown = f"{pairs[0]}, …, {pairs[-1]}"
        if st.button(f"Match in order: {plain(shown)}", key="match-in-order"):
            _set_choices("map", {str(position): name for position, name in enumerate(classes)})
    chosen = {
        label: st.selectbox(
            plain(label[:60]),
            classes,
            index=None,
            key=f"map-{position}",
            persist_state="session",
            placeholder="Class of the model",
        )
        for position, label in enumerate(labels)
    }
    if None in chosen.values():
        st.caption("Choose a class of the model for each label.")
        return None
    return chosen


def preview_prompt(card: ModelCard, text: Input | None = None) -> None:
    """Show a text, or an example, in the prompt of a language model, and the tokens of the answers.

    Raises:
        CahpError: If two answers have the same tokens.
    """
    reading = models.preview_prompt(card, text)
    if reading is None:
        return
    prompt = reading.prompted
    if len(prompt) > 2 * _SHOWN_PROMPT:
        prompt = f"{prompt[:_SHOWN_PROMPT]} […] {prompt[-_SHOWN_PROMPT:]}"
    title = "Prompt with the first text:"
    key = "prompt-preview"
    if text is None:
        title = "Prompt with an example:"
        key = "prompt-example"
    st.caption(title)
    with st.container(key=key):
        st.text(prompt)
    words = [f"**{plain(answer.word)}** ({plain(repr(answer.shown))})" for answer in reading.answers]
    if words:
        st.caption(f"Expected answers and their tokens: {', '.join(words)}")
    if reading.notice is not None:
        st.caption(plain(reading.notice))
