"""The dialog for a model and data: built-in, pasted or uploaded, from a folder, or from the hub.

Splits, columns and labels are guessed where a wrong guess does no harm. A guess is always shown and can be changed.
The key of a choice names its subject, such as the columns of a file, so that it is not applied to the next one.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import streamlit as st

from cahp import data, hub, models
from cahp.access import current
from cahp.api import bundled
from cahp.api.preflight import default_seconds
from cahp.data.dataset import MOST_PARTS, NO_LABELS, SPLITS, find_columns
from cahp.data.sources import BBC_NEWS, PRESETS
from cahp.data.tables import READERS, RowTable
from cahp.files import expanded, is_there
from cahp.models.cards import ModelCard
from cahp.models.identity import add_prompt, explain_missing_classes
from cahp.run.settings import Settings, describe
from cahp.run.texts import check_texts, label_reading, match_labels
from cahp.ui.frame.address import OPENED, OPENING, UPLOADED, WISH, Wish
from cahp.ui.frame.running import follow
from cahp.ui.parts.display import describe_size, plain, problem
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import Source, Upload, builtin_card, permitted
from cahp.values import CahpError, DataError, Progress
from cahp.words import capital, duration, size_of

T = TypeVar("T")

_OTHER_MODEL = "A folder, a GGUF file or a Hugging Face id…"
_WITH_MODEL = "The model's own data"
_FILES = "My files"
_PASTED = "My text, pasted here"
_ELSEWHERE = "A folder, a preset or hub data…"
_IN_SESSION = "stay in this session: they are not stored on disk, logged, or put into a link."
#: What a language model can be measured on.
_MEASURED_ON = ("Next tokens", "Answers to a prompt")
#: The prompt that the dialog begins with, by the kind of language model.
_PROMPTS = {"causal": "{text} It was", "masked": "{text} It was {mask}."}
_PROMPT_HELP = (
    "{text} stands for the text, {premise} and {hypothesis} for the two of a pair. A masked model answers at {mask}, a "
    "causal one after the end. Long texts are shortened, the prompt is not."
)
#: Rows, columns and characters of a cell that are shown, and rows from which the columns' roles are guessed.
_SHOWN_ROWS = 5
_SHOWN_COLUMNS = 50
_SHOWN_CHARACTERS = 300
_GUESS_ROWS = 50
#: Labels that are matched by hand at most.
_MOST_MATCHED = 20
_UNUSED = "not used"


#: Session keys: whether the dialog is open, and what was looked up on the hub, by name.
_OPEN = "cahp_dialog"
_ANSWERS = "cahp_hub"


# Opening -----------------------------------------------------------------------------------------------------


def offer(explorer: Explorer) -> None:
    """Show on the page that a link waits for consent, or how far it is with opening."""
    if WISH in st.session_state:
        with st.container(key="wish"):
            _offer_link(explorer, st.session_state[WISH])
    if OPENING in st.session_state:
        follow(st.session_state[OPENING], name="opening", title="Opening model and data")


def change_button(explorer: Explorer) -> None:
    """Draw the button that opens the dialog, and the dialog."""
    if st.button("Change model or data", key="change-source", type="tertiary"):
        st.session_state[_OPEN] = True
    # Drawn in each run until it is closed: a job that ends reruns the page, which must not close it.
    if _OPEN in st.session_state:
        st.dialog("Model and data", width="medium", on_dismiss=_close)(choose)(explorer)


def _close() -> None:
    st.session_state.pop(_OPEN, None)


def _offer_link(explorer: Explorer, wish: Wish) -> None:
    """Offer to open a link, or tell why it cannot be opened."""
    linked = " on ".join(wish.fields[name][:200] for name in ("model", "data") if name in wish.fields)
    if "prompt" in wish.fields:
        linked += f" with the prompt “{wish.fields['prompt'][:200]}”"
    ready = False
    reason = ". Opening it reads from a folder or the network."
    if wish.files is not None:
        reason = " on uploaded files, which no link contains. Upload them here to see its view."
    try:
        permitted(wish.settings)
        ready = True
    except CahpError as error:
        reason = f", but {plain(str(error))}."
    st.info(
        f"This link is for {plain(linked)}{reason} This page shows {plain(explorer.card.id)} on "
        f"{plain(explorer.bench.dataset.id)} instead."
    )
    upload = None
    try:
        if ready and wish.files is not None:
            upload = _draw_upload("wish-file")
            ready = upload is not None
        if ready and st.button("Open it", key="open-wish", type="primary"):
            settings = wish.settings
            if upload is not None:
                with upload.open() as parts:
                    # The names of files are in no link, so neither are their splits.
                    if not parts.divided:
                        settings = replace(settings, splits=data.guess_splits(parts))
            _open(explorer, settings, upload, wish)
            st.rerun()
    except CahpError as error:
        problem(error)
    if st.button("Dismiss", key="leave-wish", type="tertiary"):
        del st.session_state[WISH]
        st.rerun()


def _open(explorer: Explorer, settings: Settings, upload: Upload | None = None, wish: Wish | None = None) -> None:
    """Open a model and data in the background (they may have to be downloaded); the next run shows them once ready.

    They are those of the link ``wish``, or were chosen in the dialog, whose button is the consent to a download.
    """

    def open_source(progress: Progress) -> Source:
        with hub.consent_from(lambda *_: wish is None), hub.progress_to(progress):
            return Source.open(settings, upload)

    if OPENING in st.session_state:
        # The latest choice counts.
        st.session_state[OPENING].cancel()
    job = jobs.submit(explorer.id, "open", open_source, rank=jobs.Rank.QUICK, aside=True)
    st.session_state[OPENING] = job
    # If it fails, the link is offered again.
    st.session_state[OPENED] = wish
    st.session_state.pop(WISH, None)
    st.session_state[UPLOADED] = upload
    _close()
    job.wait(3.0)


def switch_builtins(explorer: Explorer) -> None:
    """Draw the switch between the bundled runs, by what their models predict; none is marked for another model."""
    runs = {name: settings for name, settings in bundled.RUNS.items() if bundled.read_run(name) is not None}
    current = None
    if explorer.card.id in runs and runs[explorer.card.id].data == explorer.settings.data:
        current = explorer.card.id
    key = f"builtins-{current}"

    def choose() -> None:
        chosen = st.session_state[key]
        # What is on screen stays marked until the other one is open.
        st.session_state[key] = current
        if chosen not in (None, current):
            _open(explorer, runs[chosen])

    st.session_state.setdefault(key, current)
    st.segmented_control(
        "Model",
        list(runs),
        format_func=lambda name: models.BUILTINS[name].predicts,
        key=key,
        on_change=choose,
        label_visibility="collapsed",
    )


# The model ---------------------------------------------------------------------------------------------------


def choose(explorer: Explorer) -> None:
    """Draw the dialog: choose a model and data, check them, and open them."""
    kept = ("limit", "eval_limit", "window", "tokens", "eval_tokens")
    fields = {name: getattr(explorer.settings, name) for name in kept}
    try:
        name = _choose_model(explorer)
        card = name and _describe_model(name)
        if not card:
            return
        fields["window"] = min(fields["window"], card.longest_context or fields["window"])
        if card.prompt is not None:
            fields |= card.prompt.settings
        chosen = _choose_data(card, replace(bundled.SETTINGS, model=name, **fields))
        if chosen is None:
            return
        label = "Use this model and data"
        missing = card.details.get("missing", 0)
        if missing:
            # The label tells the size of the download: pressing it is the consent.
            label = f"Download {size_of(missing)} and use this model and data"
        if st.button(label, type="primary", key="use-source"):
            _open(explorer, *chosen)
            st.rerun()
    except CahpError as error:
        problem(error)


def _choose_model(explorer: Explorer) -> str:
    """Draw the choice of a model and return its name (empty: there is none yet)."""
    names = {name: builtin.description for name, builtin in models.BUILTINS.items() if builtin.data is not None}
    offered = list(names)
    first = 0
    if explorer.card.id in offered:
        first = offered.index(explorer.card.id)
    if current().opens_folders:
        offered.append(_OTHER_MODEL)
    name = st.selectbox(
        "Model",
        offered,
        first,
        format_func=lambda name: names.get(name, name),
        key="source-model",
        persist_state="session",
    )
    if name == _OTHER_MODEL:
        name = st.text_input(
            "Folder, file or id",
            key="source-model-name",
            persist_state="session",
            placeholder="org/name, or /path/to/model",
            help="A folder with config.json, safetensors weights and a tokenizer, a GGUF file, or org/name[@revision] "
            "on the hub. Pickled weights and remote code are refused.",
        ).strip()
    if not name:
        return ""
    # Checked before the look-up, which would tell what exists on this machine.
    return permitted(replace(bundled.SETTINGS, model=name)).model


def _describe_model(name: str) -> ModelCard | None:
    """Look up a model without its weights and show what it is; a language model gets its prompt."""
    # The first look at a GGUF file takes seconds.
    with st.spinner("Reading the model's description…"):
        card: ModelCard | None
        if name in models.BUILTINS:
            card = builtin_card(name)
        elif re.fullmatch(r"[\w-][\w.-]*/[^/]+", name) and not is_there(expanded(Path(name)), Path.exists):
            card = _look_up_on_hub(name, models.preview)
        else:
            card = models.preview(name)
    if card is None:
        return None
    if not card.labels and card.language:
        prompted = _MEASURED_ON[1]
        if card.language == "causal":
            prompted = st.segmented_control(
                "Measured on",
                _MEASURED_ON,
                default=_MEASURED_ON[0],
                required=True,
                key="source-answers",
                help="Next tokens of any text, without labels; or the answers to a prompt about labelled texts.",
            )
        if prompted == _MEASURED_ON[1]:
            st.caption(
                f"A {card.language} language model without a classification head. Give it a prompt, and one answer "
                "word for each class."
            )
            key = f"prompt-{card.language}"
            template = st.text_area("Prompt", _PROMPTS[card.language], key=key, height=68, help=_PROMPT_HELP)
            answers = st.text_input(
                "Answers",
                key="prompt-answers",
                placeholder="terrible, okay, great",
                help="One word for each class, in the order of the data's classes, separated by commas.",
            )
            if not answers.strip():
                return None
            card = add_prompt(card, models.make_prompt(template, describe()["answers"].parse(answers)))
    if not card.labels and card.task.predicts_labels:
        raise CahpError(f"{explain_missing_classes(card, card.id)}, and open that folder")
    predicts = card.describes_task
    if card.labels:
        predicts = f"classes {plain(', '.join(card.labels)[:200])}"
    st.caption(
        f"{card.family.upper()}, supported · {describe_size(card)} · {predicts} · a default run takes about "
        f"{duration(default_seconds(card))} here"
    )
    return card


def _look_up_on_hub(name: str, find: Callable[[str], T]) -> T | None:
    """Draw the box that allows a look-up on the hub, and return what is there (None: not allowed yet).

    The hub is asked once in a session.
    """
    if not st.checkbox("Look it up on the hub (uses the network unless it was downloaded before)", key=f"hub-{name}"):
        return None
    answers = st.session_state.setdefault(_ANSWERS, {})
    if name not in answers:
        answers[name] = find(name)
    return answers[name]  # type: ignore[no-any-return]


# The data ----------------------------------------------------------------------------------------------------


def _choose_data(card: ModelCard, settings: Settings) -> tuple[Settings, Upload | None] | None:
    """Draw the boxes and return the settings for the data, and the upload if there is one (None: no choice yet).

    Raises:
        CahpError: If the data cannot be used.
    """
    builtin = models.BUILTINS.get(settings.model)
    offered = [_FILES, _PASTED]
    if builtin is not None and builtin.data == BBC_NEWS:
        offered.insert(0, _WITH_MODEL)
    if current().public:
        # Without access to the whole hub, presets are listed instead of a box for ids.
        offered += PRESETS
    if current().opens_folders:
        offered.append(_ELSEWHERE)
    picked = st.selectbox("Data", offered, key=f"source-data-{_WITH_MODEL in offered}", persist_state="session")
    if picked == _WITH_MODEL:
        return settings, None
    upload = None
    if picked in (_FILES, _PASTED):
        upload = _draw_upload("source-file") if picked == _FILES else _paste()
        if upload is None:
            return None
        with upload.open() as parts:
            matched = _assign_roles(parts, card, settings)
    else:
        name = picked
        if picked == _ELSEWHERE:
            name = st.text_input(
                "Folder, file, preset or hub data",
                key="source-data-name",
                persist_state="session",
                placeholder="/path/to/folder, sst5, mnli, or hub:org/name",
            ).strip()
        if not name:
            return None
        settings = permitted(replace(settings, data=name))
        name = str(settings.data)
        if name == BBC_NEWS:
            matched = _match_labels(data.load(name), card, settings)
        else:
            found: data.Parts | None
            if name.startswith("hub:") or (name in PRESETS and not is_there(Path(name), Path.is_dir)):
                found = _look_up_on_hub(name, data.find)
            else:
                found = data.find(name)
            if found is None:
                return None
            matched = _assign_roles(found, card, settings)
    if matched is None:
        return None
    return matched, upload


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


def _draw_upload(key: str) -> Upload | None:
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
    files: dict[str, bytes] = {}
    for file in uploaded:
        # Files of two folders may have the same name.
        name = file.name
        while name in files:
            name = f"({len(files) + 1}) {name}"
        files[name] = file.getvalue()
    if files:
        return Upload(files)
    before: Upload | None = st.session_state.get(UPLOADED)
    if before is None:
        st.caption(f"Files {_IN_SESSION}")
    else:
        st.caption(f"Uploaded before: {plain(before.name)}. Upload other files to replace them.")
    return before


# Roles of files, columns and labels ---------------------------------------------------------------------------


def _choose(widget: Any, label: str, options: Sequence[str], subject: object, **look: Any) -> Any:
    """Draw a choice about a ``subject``, under a key that names it, and return the chosen option."""
    key = f"source-{label}-{hash((subject, *options))}"
    return widget(plain(label[:60]), options, key=key, persist_state="session", **look)


def _assign_roles(parts: data.Parts, card: ModelCard, settings: Settings) -> Settings | None:
    """Return the settings with the split of each part, the role of each column and the labels; defaults are left out.

    None: some labels are not matched yet.
    """
    names = tuple(parts.tables)
    part = names[0]
    splits = {}
    if not parts.divided:
        guess = data.guess_splits(parts)
        draw = partial(_choose, st.segmented_control, subject=names, required=True)
        for name in sorted(names, key=lambda name: name not in parts.splits)[:MOST_PARTS]:
            split = draw(name, (*SPLITS, _UNUSED), default=guess.get(name, _UNUSED))
            if split in SPLITS:
                splits[name] = split
                if split == "train":
                    part = name
        if "train" not in splits.values():
            raise DataError("No file is marked as train. Mark one; the heads are selected on it.")
    if splits == {name: split for name, split in parts.splits.items() if split in SPLITS}:
        # The parts are split by default; other parts of the data stay available.
        splits = {}
    table = parts.tables[part]()
    documents: Any = "paragraph"
    if part.lower().endswith(".txt"):
        kinds = ("paragraph", "line")
        # A file without blank lines is one paragraph, so its lines are documents.
        usual = kinds[len(table.preview(2)) < 2]
        documents = _choose(
            st.segmented_control, "Each document is a", kinds, (part, usual), default=usual, required=True
        )
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
    if len(names) == 1:
        return data.Columns(names[0], None, NO_LABELS)
    guess = data.guess_columns(names, rows)
    others = [NO_LABELS, *names]
    boxes = (
        ("Text", names, guess.text or names[0]),
        ("Second text", others, guess.pair or NO_LABELS),
        ("Label", others, guess.label or NO_LABELS),
    )
    chosen = []
    for place, (label, options, first) in zip(st.columns(3), boxes, strict=True):
        chosen.append(_choose(place.selectbox, label, options, part, index=options.index(first)))
    text, pair, label = chosen
    if pair == NO_LABELS:
        pair = None
    columns = data.Columns(text, pair, label)
    if columns == find_columns(names):
        return data.Columns()
    return columns


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
    _preview_prompt(dataset, card)
    if not (dataset.labelled and card.labels):
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
    else:
        pairs = [f"{label} = {name}" for label, name in label_reading(dataset, matched).items()]
        st.caption(f"Labels match: {plain(', '.join(pairs)[:200])}")
        return settings
    st.markdown("Choose a class of the model for each label:")
    places = {name.strip().casefold(): place for place, name in enumerate(card.labels)}
    chosen = {}
    for label in dataset.classes:
        # Numbers are no names: 1 of 1 to 5 is not 1 of 0 to 4.
        index = None if label.isdecimal() else places.get(label.strip().casefold())
        chosen[label] = _choose(
            st.selectbox, label, card.labels, dataset.classes, index=index, placeholder="Class of the model"
        )
    if None in chosen.values():
        return None
    return replace(settings, label_map=chosen)


def _preview_prompt(dataset: data.Dataset, card: ModelCard) -> None:
    """Show the first text in the prompt of a language model, and the tokens of the answers.

    Raises:
        CahpError: If two answers have the same tokens.
    """
    reading = models.preview_prompt(card, next(iter(dataset.splits.values())).plain_inputs[0])
    if reading is None:
        return
    st.caption("Prompt with the first text:")
    prompt = reading.prompted
    if len(prompt) > 1200:
        # The answer is expected at the end.
        prompt = f"{prompt[:600]} […] {prompt[-600:]}"
    st.text(prompt)
    words = [f"**{plain(answer.word)}** ({plain(repr(answer.shown))})" for answer in reading.answers]
    st.caption(f"Expected answers and their tokens: {', '.join(words)}")
    if reading.notice is not None:
        st.caption(plain(reading.notice))
