"""The pages: found beside ``app.py`` and named by key, so that no other file says where one lies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import streamlit as st
from streamlit.errors import StreamlitAPIException
from streamlit.runtime.scriptrunner import get_script_run_ctx

from cahp.ui.frame import address

#: A page's number, which orders it, and its name; as Streamlit reads them.
_NAME = re.compile(r"(\d+)_(\w+)")


@dataclass(frozen=True)
class PageScript:
    """A page of the app: what the navigation calls it, and its script as links in Streamlit name it."""

    label: str
    path: str

    @property
    def key(self) -> str:
        """What links in our own code call it."""
        return self.label.lower().replace(" ", "-")


@cache
def found(folder: Path) -> tuple[PageScript, ...]:
    """The pages of the app in ``folder``: home, then the scripts in ``pages/`` in the order of their numbers.

    Read once: no page comes or goes while a server runs.
    """
    return tuple(_found(folder))


def _found(folder: Path) -> Iterator[PageScript]:
    if (folder / "app.py").is_file():
        yield PageScript("Home", "app.py")
    named = [(path, match) for path in folder.glob("pages/*.py") if (match := _NAME.fullmatch(path.stem))]
    for path, match in sorted(named, key=lambda pair: int(pair[1][1])):
        yield PageScript(match[2].replace("_", " "), f"pages/{path.name}")


def link(key: str, label: str, *, otherwise: str = "", **more: str) -> None:
    """A link to another page that keeps the view, and says ``more`` in its address.

    ``otherwise`` is said where a page was started on its own.
    """
    for page in _here():
        if page.key == key and _linked(page, label, **more):
            return
    if otherwise:
        st.markdown(otherwise)


def navigation() -> None:
    """Links to all pages."""
    with st.container(key="pages", gap=None):
        for page in _here():
            _linked(page, page.label)


def _here() -> tuple[PageScript, ...]:
    context = get_script_run_ctx()
    return () if context is None else found(Path(context.main_script_path).parent)


def _linked(page: PageScript, label: str, **more: str) -> bool:
    try:
        st.page_link(page.path, label=label, query_params={**address.view(), **more})
    except (StreamlitAPIException, KeyError):
        return False
    return True
