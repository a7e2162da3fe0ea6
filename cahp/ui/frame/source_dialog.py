"""The dialog for a model and data: built-in, from the hub, from a folder, or uploaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import streamlit as st

from cahp import data, hub, models
from cahp.access import current
from cahp.api import bundled
from cahp.api.preflight import default_seconds
from cahp.files import expanded, is_there
from cahp.models.cards import ModelCard
from cahp.models.identity import add_prompt, explain_missing_classes
from cahp.run.settings import Settings, describe
from cahp.ui.frame import data_fields
from cahp.ui.frame.address import OPENING, WISH, Wish
from cahp.ui.frame.data_fields import dialog_state
from cahp.ui.frame.running import follow
from cahp.ui.parts.display import describe_size, plain, problem
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import Job
from cahp.ui.session.opening import Source, Upload, builtin_card, permitted
from cahp.values import CahpError, Progress
from cahp.words import duration, size_of

_OTHER_MODEL = "A folder, a GGUF file or a Hugging Face id…"
#: The prompt that the dialog begins with, by the kind of language model.
_PROMPTS = {"causal": "{text} It was", "masked": "{text} It was {mask}."}
_PROMPT_HELP = (
    "{text} stands for the text, {premise} and {hypothesis} for the two of a pair. A masked model answers at {mask}, a "
    "causal one after the end. Long texts are shortened, the prompt is not."
)


def offer(explorer: Explorer) -> None:
    """Show on the page that a link waits for consent, or how far it is with opening."""
    wish = st.session_state.get(WISH)
    if wish is not None:
        with st.container(key="wish"):
            _offer_link(explorer, wish)
    opening = st.session_state.get(OPENING)
    if opening is not None:
        follow(opening, name="opening", title="Opening model and data")


def change_button(explorer: Explorer) -> None:
    """Draw the button that opens the dialog, and the dialog."""
    if st.button("Change model or data", key="change-source", type="tertiary"):
        dialog_state().is_open = True
    # Drawn in each run until it is closed: a job that ends reruns the page, which must not close it.
    if dialog_state().is_open:
        st.dialog("Model and data", width="medium", on_dismiss=_close)(choose)(explorer)


def _close() -> None:
    state = dialog_state()
    state.is_open = False
    state.failure = None


def finish(job: Job[Source]) -> Wish | None:
    """Return the link that was opened, if any; after a failure, show the dialog or the link again with all choices."""
    state = dialog_state()
    wish = state.opening
    state.opening = None
    if job.result is not None:
        state.upload = None
        return wish
    if wish is not None:
        st.session_state[WISH] = wish
    elif job.error:
        state.is_open = True
        state.failure = job.error
    return None


def _offer_link(explorer: Explorer, wish: Wish) -> None:
    """Offer to open a link, or tell why it cannot be opened."""
    linked = wish.fields["model"]
    if "data" in wish.fields:
        linked += f" on {wish.fields['data']}"
    if "prompt" in wish.fields:
        linked += f" with the prompt “{wish.fields['prompt'][:200]}”"
    upload: Upload | None = None
    ready = False
    reason = ". Opening it reads from a folder or the network."
    if wish.files is not None:
        reason = " on uploaded files, which no link contains. Upload them here to see its view."
    try:
        permitted(wish.settings)
        ready = wish.files is None
    except CahpError as error:
        reason = f", but {plain(str(error))}."
    st.info(
        f"This link is for {plain(linked)}{reason} This page shows {plain(explorer.card.id)} on "
        f"{plain(explorer.bench.dataset.id)} instead."
    )
    settings = wish.settings
    if wish.files is not None:
        try:
            upload = data_fields.draw_upload("wish-file")
            if upload is not None:
                with upload.open() as parts:
                    # The names of files are in no link, so neither are their splits.
                    if not parts.divided:
                        settings = replace(settings, splits=data.guess_splits(parts))
                ready = True
        except CahpError as error:
            problem(error)
    with st.container(horizontal=True, gap="small"):
        if ready and st.button("Open it", key="open-wish", type="primary"):
            _open(explorer, settings, upload, wish=wish)
            st.rerun()
        if st.button("Dismiss", key="leave-wish", type="tertiary"):
            del st.session_state[WISH]
            st.rerun()


def _open(explorer: Explorer, settings: Settings, upload: Upload | None = None, *, wish: Wish | None = None) -> None:
    """Open a model and data in the background (they may have to be downloaded); the next run shows them once ready.

    They are those of the link ``wish``, or were chosen in the dialog, whose button is the consent to a download.
    """

    def open_source(progress: Progress) -> Source:
        with hub.consent_from(lambda *_: wish is None), hub.progress_to(progress):
            return Source.open(settings, upload)

    earlier = st.session_state.get(OPENING)
    if earlier is not None:
        # The latest choice counts.
        earlier.cancel()
    job = jobs.submit(explorer.id, "open", open_source, rank=jobs.Rank.QUICK, aside=True)
    st.session_state[OPENING] = job
    st.session_state.pop(WISH, None)
    state = dialog_state()
    state.opening = wish
    state.upload = upload
    _close()
    job.wait(3.0)


def choose(explorer: Explorer) -> None:
    """Draw the dialog: choose a model and data, check them, and open them."""
    if dialog_state().failure is not None:
        problem(dialog_state().failure)
    kept = ("limit", "eval_limit", "window", "tokens", "eval_tokens")
    fields: dict[str, Any] = {field: getattr(explorer.settings, field) for field in kept}
    try:
        name = _choose_model(explorer)
        card = name and _describe_model(name)
        if not card:
            return
        if card.longest_context is not None:
            fields["window"] = min(fields["window"], card.longest_context)
        if card.prompt is not None:
            fields |= {"prompt": card.prompt.template, "answers": card.prompt.answers}
        chosen = data_fields.draw(card, replace(bundled.SETTINGS, model=name, **fields))
        if chosen is None:
            return
        missing = (card.details or {}).get("missing", 0)
        label = "Use this model and data"
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
    descriptions = {name: builtin.description for name, builtin in models.BUILTINS.items() if builtin.data is not None}
    offered = list(descriptions)
    first = 0
    if explorer.card.id in offered:
        first = offered.index(explorer.card.id)
    if current().opens_folders:
        offered.append(_OTHER_MODEL)
    picked = st.selectbox(
        "Model",
        offered,
        index=first,
        format_func=lambda name: descriptions.get(name, name),
        key="source-model",
        persist_state="session",
        # A path or an id that is typed here is offered as "Open path": see explorer.css.
        accept_new_options=current().opens_folders,
    )
    name = str(picked).strip()
    if picked == _OTHER_MODEL:
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
    card: ModelCard | None
    # The first look at a GGUF file takes seconds.
    with st.spinner("Reading the model's description…"):
        if "/" in name and not is_there(expanded(Path(name)), Path.exists):
            card = data_fields.look_up_on_hub("model", name, models.preview)
        elif name in models.BUILTINS:
            card = builtin_card(name)
        else:
            card = models.preview(name)
    if card is None:
        return None
    if not card.labels and card.language is not None and (card.language != "causal" or _is_prompted()):
        st.caption(
            f"A {card.language} language model without a classification head. Give it a prompt, and one answer word "
            "for each class."
        )
        template = st.text_area(
            "Prompt", _PROMPTS[card.language], key=f"prompt-{card.language}", height=68, help=_PROMPT_HELP
        )
        answers = st.text_input(
            "Answers",
            key="prompt-answers",
            placeholder="terrible, okay, great",
            help="One word for each class, in the order of the data's classes, separated by commas.",
        )
        if not answers.strip():
            return None
        card = add_prompt(card, models.make_prompt(template, describe()["answers"].parse(answers)))
        data_fields.preview_prompt(card)
    if not card.labels and card.task.predicts_labels:
        raise CahpError(f"{explain_missing_classes(card, card.id)}, and open that folder")
    predicts = card.describes_task
    if card.labels:
        predicts = f"classes {plain(', '.join(card.labels)[:200])}"
    st.caption(
        f"{card.family.upper()}, supported · {describe_size(card)} · {predicts} · a default "
        f"run takes about {duration(default_seconds(card))} here"
    )
    return card


def _is_prompted() -> bool:
    """Draw the choice of what a causal language model is measured on; return whether it answers a prompt."""
    options = ["Next tokens", "Answers to a prompt"]
    help = "Next tokens of any text, without labels; or the answers to a prompt about labelled texts."
    chosen = st.segmented_control(
        "Measured on", options, default=options[0], required=True, key="source-answers", help=help
    )
    return bool(chosen == options[1])


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

    if key not in st.session_state:
        st.session_state[key] = current
    st.segmented_control(
        "Model",
        list(runs),
        format_func=lambda name: models.BUILTINS[name].predicts,
        key=key,
        on_change=choose,
        label_visibility="collapsed",
    )
