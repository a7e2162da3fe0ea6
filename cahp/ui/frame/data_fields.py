"""Boxes for the data: built-in, pasted or uploaded texts, a folder, or the hub; and the roles of their parts.

Splits, columns and labels are guessed where a wrong guess does no harm. A guess is always shown and can be changed.
The key of a choice names its subject, such as the columns of a file, so that it is not applied to the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import streamlit as st

from cahp import data, models
from cahp.access import current
from cahp.data.dataset import MOST_PARTS, NO_LABELS, SPLITS, default_columns
from cahp.data.sources import BBC_NEWS, PRESETS
from cahp.data.tables import READERS, RowTable
from cahp.files import is_there
from cahp.models.cards import ModelCard
from cahp.run.settings import Settings
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
#: Rows, columns and characters of a cell that are shown, and rows from which the columns' roles are guessed.
_SHOWN_ROWS = 5
_SHOWN_COLUMNS = 50
_SHOWN_CHARACTERS = 300
_GUESS_ROWS = 50
#: Labels that are matched by hand at most.
_MOST_MATCHED = 20
_UNUSED = "not used"
_IN_SESSION = "stay in this session: they are not stored on disk, logged, or put into a link."


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
    builtin = models.BUILTINS.get(settings.model)
    offered = [FILES, PASTED]
    if builtin is not None and builtin.data == BBC_NEWS:
        offered.insert(0, WITH_MODEL)
    if current().public:
        # Without access to the whole hub, presets are listed instead of a box for ids.
        offered += PRESETS
    if current().opens_folders:
        offered.append(ELSEWHERE)
    picked = st.selectbox("Data", offered, key=f"source-data-{WITH_MODEL in offered}", persist_state="session")
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
            name = st.text_input(
                "Folder, file, preset or hub data",
                key="source-data-name",
                persist_state="session",
                placeholder="/path/to/folder, sst5, mnli, or hub:org/name",
            ).strip()
        if not name:
            return None
        matched = _match_named(card, permitted(replace(settings, data=name)))
    if matched is None:
        return None
    return matched, upload


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
    st.caption(f"The paragraphs {_IN_SESSION}")
    if not text.strip():
        return None
    return Upload({"pasted.txt": text.encode(errors="replace")})


def draw_upload(key: str) -> Upload | None:
    """Draw the box for files and return them, or those that failed to open (None: no files yet).

    Raises:
        DataError: If there are too many files.
    """
    uploaded = st.file_uploader(
        "One file with texts, or separate files for train, validation and test",
        type=[suffix.removeprefix(".") for suffix in READERS],
        accept_multiple_files=True,
        key=key,
    )
    upload = dialog_state().upload
    if uploaded:
        files: dict[str, bytes] = {}
        for file in uploaded:
            # Files of two folders may have the same name.
            name = file.name
            while name in files:
                name = f"({len(files) + 1}) {name}"
            files[name] = file.getvalue()
        return Upload(files)
    if upload is not None:
        st.caption(f"Uploaded before: {plain(upload.name)}. Upload other files to replace them.")
        return upload
    st.caption(f"Files {_IN_SESSION}")
    return None


# Roles of files, columns and labels ---------------------------------------------------------------------------------


def _choose(widget: Any, label: str, options: Sequence[str], subject: object, **look: Any) -> Any:
    """Draw a choice about a ``subject``, under a key that names it, and return the chosen option."""
    key = f"source-{label}-{hash((subject, *options))}"
    return widget(plain(label[:60]), options, key=key, persist_state="session", **look)


def _assign_roles(parts: data.Parts, card: ModelCard, settings: Settings) -> Settings | None:
    """Return the settings with the split of each part, the role of each column and the labels; defaults are left out.

    None: some labels are not matched yet.
    """
    splits: dict[str, str] = {}
    names = tuple(parts.tables)
    part = names[0]
    if not parts.divided:
        guess = data.guess_splits(parts)
        for name in sorted(names, key=lambda name: name not in parts.splits)[:MOST_PARTS]:
            look = {"default": guess.get(name, _UNUSED), "required": True}
            split = _choose(st.segmented_control, name, (*SPLITS, _UNUSED), names, **look)
            if split in SPLITS:
                splits[name] = split
        if "train" not in splits.values():
            raise DataError("No file is marked as train. Mark one; the heads are selected on it.")
        part = next(name for name, split in splits.items() if split == "train")
    if splits == {name: split for name, split in parts.splits.items() if split in SPLITS}:
        # The parts are split by default; other parts of the data stay available.
        splits = {}
    table = parts.tables[part]()
    documents: Any = "paragraph"
    if part.lower().endswith(".txt"):
        # A file without blank lines is one paragraph, so its lines are documents.
        usual = int(len(table.preview(2)) < 2)
        look = {"default": ("paragraph", "line")[usual], "required": True}
        documents = _choose(st.segmented_control, "Each document is a", ("paragraph", "line"), (part, usual), **look)
        if documents == "line":
            table = table.by_line()
    columns = _choose_columns(table, part)
    settings = replace(
        settings,
        splits=splits,
        documents=documents,
        text_column=columns.text,
        pair_column=columns.pair,
        label_column=columns.label,
    )
    return _match_labels(parts.read(**settings.columns), card, settings)


def _choose_columns(table: RowTable, part: str) -> data.Columns:
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
        others = [NO_LABELS, *names]
        places = st.columns(3)
        text = _choose(places[0].selectbox, "Text", names, part, index=names.index(guess.text or names[0]))
        pair = _choose(places[1].selectbox, "Second text", others, part, index=others.index(guess.pair or NO_LABELS))
        label = _choose(places[2].selectbox, "Label", others, part, index=others.index(guess.label or NO_LABELS))
        if pair == NO_LABELS:
            pair = None
        chosen = data.Columns(text, pair, label)
    usual = default_columns(names)
    if usual and chosen == replace(usual, label=usual.label or NO_LABELS):
        return data.Columns()
    return chosen


def _encodable(text: str) -> str:
    """Replace halves of surrogate pairs, which JSON can contain and a page cannot show."""
    return text.encode(errors="replace").decode()


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
        return _match_by_hand(dataset.classes, card.labels, settings)
    pairs = [f"{label} = {name}" for label, name in label_reading(dataset, matched).items()]
    st.caption(f"Labels match: {plain(', '.join(pairs)[:200])}")
    return settings


def _match_by_hand(labels: tuple[str, ...], classes: tuple[str, ...], settings: Settings) -> Settings | None:
    """Draw a choice of the model's class for each label; return the settings with the map (None: some are missing)."""
    st.markdown("Choose a class of the model for each label:")
    places = {name.strip().casefold(): place for place, name in enumerate(classes)}
    if all(label.isdecimal() for label in labels):
        # Numbers are no names: 1 of 1 to 5 is not 1 of 0 to 4.
        places = {}
    chosen = {}
    for label in labels:
        index = places.get(label.strip().casefold())
        chosen[label] = _choose(st.selectbox, label, classes, labels, index=index, placeholder="Class of the model")
    if None in chosen.values():
        return None
    return replace(settings, label_map=chosen)


def preview_prompt(card: ModelCard, text: Input | None = None) -> None:
    """Show a text, or an example, in the prompt of a language model, and the tokens of the answers.

    Raises:
        CahpError: If two answers have the same tokens.
    """
    reading = models.preview_prompt(card, text)
    if reading is None:
        return
    subject = "an example"
    if text is not None:
        subject = "the first text"
    st.caption(f"Prompt with {subject}:")
    prompt = reading.prompted
    if len(prompt) > 1200:
        # The answer is expected at the end.
        prompt = f"{prompt[:600]} […] {prompt[-600:]}"
    st.text(prompt)
    words = [f"**{plain(answer.word)}** ({plain(repr(answer.shown))})" for answer in reading.answers]
    if words:
        st.caption(f"Expected answers and their tokens: {', '.join(words)}")
    if reading.notice is not None:
        st.caption(plain(reading.notice))
