"""Which comparison is on screen: a bundled one, one that was measured here, or a file that somebody brought."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from cahp import bundled
from cahp.comparison import Comparison
from cahp.comparison.opening import opened
from cahp.run.document import machine
from cahp.ui.frame import page as shell
from cahp.ui.parts.text import plain
from cahp.ui.session.explorer import Explorer
from cahp.values import CahpError

#: Session keys: comparisons that this session measured or opened, and the one on screen.
_MINE, _CHOSEN = "cahp_compare_mine", "compare-which"


@dataclass(frozen=True, eq=False)
class Choice:
    """A comparison that can be shown, and where it comes from, in Markdown."""

    label: str
    origin: str
    comparison: Comparison


def available() -> tuple[dict[str, Choice], list[str]]:
    """Everything that can be shown, by a key of its own: what this session made first, then what is bundled."""
    choices: dict[str, Choice] = dict(reversed(_mine().items()))
    shipped, broken = bundled.comparisons(bundled.comparisons_folder())
    for one in shipped:
        when = f", {one.made['date']}" if one.made else ""
        where = (
            f"**Bundled**: measured on {plain(one.made['machine'])}, {plain(one.made['date'])}."
            if one.made
            else "**Bundled**: where and when it was measured was not recorded."
        )
        choices[f"bundled-{one.name}"] = Choice(
            f"{one.comparison.reading.title} · bundled{when}", where, one.comparison
        )
    return choices, broken


def _mine() -> dict[str, Choice]:
    return st.session_state.setdefault(_MINE, {})  # type: ignore[no-any-return]


def keep(found: Comparison) -> None:
    """Show a comparison that was measured here, from now on."""
    key = f"own-{len(_mine()) + 1}"
    origin = f"**Measured on this machine** ({plain(machine())})."
    _mine()[key] = Choice(f"{found.reading.title} · measured here ({len(_mine()) + 1})", origin, found)
    st.session_state[f"{_CHOSEN}-next"] = key


def chosen(explorer: Explorer, choices: dict[str, Choice]) -> Choice:
    """Draw the choice among comparisons, and say which it is; at first the one of this model that says most."""
    wished = st.session_state.pop(f"{_CHOSEN}-next", None)
    if wished in choices:
        st.session_state[_CHOSEN] = wished
    if st.session_state.get(_CHOSEN) not in choices:
        same = [key for key, one in choices.items() if one.comparison.reading.model_sha256 == explorer.card.sha256]
        # The one that says most.
        st.session_state[_CHOSEN] = max(same or choices, key=lambda key: len(choices[key].comparison.reading.means))
    left, right = st.columns([4, 1], vertical_alignment="bottom", gap="small")
    with left:
        key = st.selectbox(
            "Comparison",
            list(choices),
            format_func=lambda key: choices[key].label,
            key=_CHOSEN,
            persist_state="session",
            label_visibility="collapsed",
        )
    with right:
        _door()
    return choices[key]


def _door() -> None:
    with st.popover("Open a file", key="compare-open", width="stretch"):
        uploader()


def uploader() -> None:
    """Draw where a file can be brought, and what was wrong with the last one."""

    def brought() -> None:
        file = st.session_state["compare-file"]
        st.session_state.pop("compare-trouble", None)
        if file is None:
            return
        try:
            found = opened(file.name, file.getvalue())
        except CahpError as error:
            st.session_state["compare-trouble"] = str(error)
            return
        key = f"file-{len(_mine()) + 1}"
        _mine()[key] = Choice(
            f"{found.reading.title} · {file.name[:40]}", f"**From your file** {plain(file.name[:80])}.", found
        )
        st.session_state[f"{_CHOSEN}-next"] = key

    st.file_uploader(
        "A compare.json that `cahp compare --out DIR` wrote", type=["json"], key="compare-file", on_change=brought
    )
    if "compare-trouble" in st.session_state:
        with st.container(key="compare-trouble-place"):
            shell.problem(st.session_state["compare-trouble"])
    st.caption("It stays in this session.")
