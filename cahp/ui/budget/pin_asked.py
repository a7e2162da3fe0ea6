"""A link that pins a mask of another model than the board's: open that model, or show why it cannot be opened."""

from __future__ import annotations

import streamlit as st

from cahp import hub, models
from cahp.cards import ModelCard
from cahp.run.settings import Settings
from cahp.ui.budget import notes
from cahp.ui.frame import address
from cahp.ui.frame.running import show_in_row
from cahp.ui.parts.display import plain, problem
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import look_up, permitted
from cahp.ui.session.work import Kind
from cahp.values import CahpError, Progress


def _looked_up(asked: Settings, progress: Progress) -> tuple[Settings, ModelCard]:
    # Large downloads need the dialog, which shows their size.
    with hub.consent_from(lambda *_: False), hub.progress_to(progress):
        return look_up(asked)


#: Seconds that a page waits for the look-up.
_SOON_S = 0.3

#: Identify the pinned model; its weights are loaded when it is compared.
LOOK_UP: Kind[Settings, tuple[Settings, ModelCard]] = Kind(
    _looked_up, lambda asked: f"pinned-{asked.model}-{asked.prompt}-{asked.answers}", io=True
)


def take(explorer: Explorer) -> None:
    """Pin the mask of a link once its model is identified, or is the one on the board."""
    said = explorer.pin_asked
    if not said:
        return
    try:
        asked = permitted(address.pin_settings(said))
    except CahpError:
        # It stays in the address, and ``draw`` shows why it waits.
        return
    job = explorer.work.job(LOOK_UP, asked)
    if _is_on_board(explorer, asked, again="pin-again" in said):
        found = explorer.settings, explorer.card
    elif job is not None and job.result is not None:
        found = job.result
    else:
        return
    explorer.pin_asked = {}
    try:
        explorer.pinned = address.read_pin(said, *found)
    except CahpError as error:
        notes.refuse(error)


def _is_on_board(explorer: Explorer, asked: Settings, *, again: bool) -> bool:
    here = explorer.settings
    return here.model == asked.model and (again or (here.prompt, here.answers) == (asked.prompt, asked.answers))


def draw(explorer: Explorer) -> str | None:
    """Draw the pin of the link, and return the label of the button that identifies its model (None: no button)."""
    said = explorer.pin_asked
    asked = address.pin_settings(said)
    name = f"**{plain(asked.model[:200])}**"
    try:
        asked = permitted(asked)
    except CahpError as error:
        st.markdown(f"This link pins a mask of {name} as **A**, but {plain(str(error))}.")
        return None
    if "pin-again" in said:
        st.markdown(
            f"This link pins a mask of {name} as **A**, but the settings of that model are too long for a link. Open "
            "it again with the same settings to restore **A**."
        )
        return None
    if asked.model in models.BUILTINS and explorer.work.job(LOOK_UP, asked) is None:
        _start(explorer, asked)
    job = explorer.work.job(LOOK_UP, asked)
    if job is None or job.state == "cancelled":
        st.markdown(
            f"This link pins a mask of {name} as **A**. To compare it with the board, that model is read from a "
            "folder or the network."
        )
        return "Open it"
    if not job.ended:
        show_in_row(job, "Looking at the pinned model", key="pin-open-cancel")
        return None
    if job.error is None:
        # It was identified just now: the next run of the page uses it.
        return None
    problem(job.error)
    st.markdown(f"This link pins a mask of {name} as **A**. Open that model (*Change model or data*), or try again.")
    return "Try again"


def offer(explorer: Explorer, words: str) -> None:
    """Draw the button that identifies the model of the link."""
    if st.button(words, key="pin-open"):
        _start(explorer, permitted(address.pin_settings(explorer.pin_asked)))
        st.rerun()


def _start(explorer: Explorer, asked: Settings) -> None:
    if explorer.work.start(LOOK_UP, asked).wait(_SOON_S):
        st.rerun()
