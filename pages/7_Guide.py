"""The guide: the pages of assets/docs, without a network."""

import streamlit as st

from cahp import models
from cahp.ui.frame.page import page

FOLDER = (models.assets() / "docs").resolve()
#: The rooms of the guide in their order; pages of no room stand around them.
ROOMS = ("index.md", "learn", "do", "look-up", "understand", "results", "questions.md", "contributing.md")


def read_guide() -> dict[str, str]:
    names = [path.relative_to(FOLDER).as_posix() for path in sorted(FOLDER.rglob("*.md"))]
    names.sort(key=lambda name: ROOMS.index(name.partition("/")[0]))
    return {name: (FOLDER / name).read_text(encoding="utf-8") for name in names}


def drop(text: str, start: str, end: str) -> str:
    first, *rest = text.split(start)
    return first + "".join(part.partition(end)[2] for part in rest)


def lead(text: str, name: str) -> str:
    """Lead links to pages of the guide to this page; of a link to another file, only the words stay."""
    shown, *rest = text.split("](")
    for part in rest:
        target, _, after = part.partition(")")
        path, mark, anchor = target.partition("#")
        place = (FOLDER / name).parent.joinpath(path).resolve()
        if "://" in target or not path:
            shown += f"]({target}){after}"
        elif place.is_relative_to(FOLDER):
            shown += f"](Guide?page={place.relative_to(FOLDER).as_posix()}{mark}{anchor}){after}"
        else:
            before, _, words = shown.rpartition("[")
            shown = f"{before}{words}{after}"
    return shown


page("Guide")
pages = read_guide()
names = list(pages)
wished = st.query_params.get("page", "index.md")
at = names.index(wished) if wished in names else 0
titles = {name: text.partition("\n")[0].removeprefix("# ") for name, text in pages.items()}
chosen = st.selectbox("Page of the guide", names, at, format_func=lambda name: titles[name])
st.query_params["page"] = chosen
# Pictures are no part of a wheel, and marks are for the scripts that write tables.
st.markdown(lead(drop(drop(pages[chosen], "<picture>", "</picture>"), "<!--", "-->\n"), chosen))
