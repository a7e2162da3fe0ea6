"""Boxes for a person's own text, with examples, and a tab's memory of them.

A reload of the page is a new session, and texts are in no address. So the browser keeps them in its session storage,
which belongs to one tab and is sent nowhere: the page asks for its content once, and updates it from then on.
"""

import json
from collections.abc import Collection, Mapping, Sequence

import streamlit as st

from cahp import models
from cahp.data.sources import BBC_NEWS
from cahp.run.bench import Bench
from cahp.tasks import NEXT_TOKEN
from cahp.values import Input

#: The name of the boxes for the text of a session, which several tabs and the first screen show.
_OWN = "own-text"
#: Session key: what the browser kept of the last session.
_SAID = f"{_OWN}-kept-said"
#: Index of the example in them: a topic of the embedded model, whose answer changes with few heads.
TOPIC = 11
#: That of a model whose task has the name: a text without an end.
_OPENINGS = {NEXT_TOKEN.name: 10}
#: Characters that a box takes.
LONGEST = 100_000
#: Examples from a person's own data.
_MOST_OWN = 6
#: Characters of the name of an example.
_NAME = 50

_STORAGE = """
export default function ({ data, parentElement, setTriggerValue }) {
  const name = `cahp-${data.name}`;
  // An answer just after a click that leads to another page would empty that page, so it waits until nothing runs.
  const answer = () => {
    const state = document.querySelector("[data-testid=stApp]")?.dataset.testScriptState ?? "notRunning";
    if (state === "notRunning") setTriggerValue("answer", JSON.parse(sessionStorage.getItem(name) ?? "{}"));
    else if (parentElement.isConnected) setTimeout(answer, 50);
  };
  try {
    if (!data.ask) sessionStorage.setItem(name, JSON.stringify(data.boxes));
    else if (!parentElement.cahpAsked) {
      parentElement.cahpAsked = true;
      answer();
    }
  } catch {
    // The storage is full or forbidden: a reload then starts with the examples.
  }
}
"""

#: Example texts: each has a ``name``, and a ``text`` or the ``first`` and ``second`` of a pair.
Examples = list[dict[str, str]]
#: The names of the texts of an example, by the name of the file of examples.
_PARTS = {"single": ("text",), "pairs": ("first", "second")}


def load_examples(kind: str) -> Examples:
    """Read the bundled example texts."""
    examples: Examples = json.loads((models.assets() / "examples" / f"{kind}.json").read_text("utf-8"))
    return examples


def find_opening(task: str) -> str:
    """Return the text that a session opens with, of a model whose task has this name."""
    return load_examples("single")[_opening_place(task)]["text"]


def own_examples(bench: Bench) -> Examples:
    """Return the first evaluation texts of a person's own data, named by their first characters.

    Those of a language model are beginnings of its windows. Built-in data have none: the bundled texts fit them.
    """
    texts = bench.evaluation
    examples = []
    if bench.dataset.id == BBC_NEWS:
        # Reading the texts of a bundled run takes seconds, and its model.
        return []
    for text in texts.plain_inputs[:_MOST_OWN]:
        parts = [part[:LONGEST] for part in parts_of(text)]
        if texts.task.example_length:
            parts = [part[: texts.task.example_length].rpartition(" ")[0] for part in parts]
        if all(parts):
            name = " ".join(parts[0].split())[:_NAME]
            examples.append({"name": f"{name}…", **dict(zip(_PARTS[_kind_of(bench)], parts, strict=True))})
    return examples


def _kind_of(bench: Bench) -> str:
    return "single" if bench.calibration.second is None else "pairs"


def _draw_boxes(bench: Bench, place: int, *, line: bool) -> Input:
    """Draw a box for one text, or two for a pair, and return the content; see ``own_text_box``.

    It starts with the bundled example at ``place``, or with the first text of a person's own data. When other data are
    opened, an unchanged example is replaced. Session keys end with ``place``.
    """
    state = st.session_state
    own = own_examples(bench)
    bundled = load_examples(_kind_of(bench))
    examples = [*own, *bundled]
    opening = [*own, bundled[place]][0]
    keys = dict(zip(_PARTS[_kind_of(bench)], _own_keys(bench), strict=True))
    for part, key in keys.items():
        before = f"{key}-opening"
        if key not in state or (state[key] == state.get(before) and state[key] != opening[part]):
            state[key] = opening[part]
        state[before] = opening[part]
    choice = f"{_OWN}-example-{place}"

    def insert() -> None:
        # Clear the choice, so that the same example can be inserted again.
        chosen = state[choice]
        state[choice] = None
        if chosen is not None:
            for part, key in keys.items():
                state[key] = examples[chosen][part]

    boxes = st.container()
    beside = st.container()
    look = {"placeholder": "Type or paste a text", "persist_state": "session"}
    if line:
        boxes, beside = st.container(key=f"{_OWN}-line").columns([5, 1])
        look["label_visibility"] = "collapsed"
    texts = []
    for part, key in keys.items():
        words = f"Your text, {part} part" if len(keys) > 1 else "Your text"
        if line:
            typed = boxes.text_input(words, key=key, **look)
        else:
            typed = boxes.text_area(words, key=key, height=68, max_chars=LONGEST, **look)
        texts.append((typed or "")[:LONGEST])
    beside.selectbox(
        "Example",
        range(len(examples)),
        index=None,
        format_func=lambda index: examples[index]["name"],
        placeholder="Try another",
        label_visibility="collapsed",
        key=choice,
        on_change=insert,
    )
    return _join(texts)


def _join(texts: Sequence[str]) -> Input:
    """Return a single text, or a pair of texts."""
    if len(texts) == 1:
        return texts[0]
    first, second = texts
    return first, second


def _opening_place(task: str) -> int:
    """Return the index of the example that a session opens with."""
    return _OPENINGS.get(task, TOPIC)


def _own_keys(bench: Bench) -> list[str]:
    """Return the keys of the boxes for the text of the session."""
    place = _opening_place(bench.card.task.name)
    return [f"{_OWN}-{part}-{place}" for part in _PARTS[_kind_of(bench)]]


def own_text_box(bench: Bench, *, line: bool = False) -> Input:
    """Draw the box for the text of the session, on one ``line`` or on several, and return the text.

    A text that is typed on one page stands on all of them. On one line, an empty text brings the example back.
    """
    names = _own_keys(bench)
    _keep(names)
    for name in names:
        if line and not str(st.session_state.get(name, "")).strip():
            st.session_state.pop(name, None)
    return _draw_boxes(bench, _opening_place(bench.card.task.name), line=line)


def read_own_text(bench: Bench) -> Input | None:
    """Return the text of the session where its box is not drawn (None: it never was)."""
    texts = [st.session_state.get(key) for key in _own_keys(bench)]
    if None in texts:
        return None
    return _join(texts)


def is_own_example(bench: Bench, typed: Input) -> bool:
    """Whether the text of the session is the example that its box opened with."""
    openings = [st.session_state.get(f"{key}-opening") for key in _own_keys(bench)]
    return openings == list(parts_of(typed))


def set_value(key: str, value: object) -> None:
    """Set the value of the widget with this ``key``, before it is drawn.

    A value that the widget has is not set again: it would undo a click whose message is on its way to the server.
    """
    if st.session_state.get(key) != value:
        st.session_state[key] = value


def has_words(text: Input) -> bool:
    """Return whether the text, or each part of a pair, has any words."""
    return all(part.strip() for part in parts_of(text))


def parts_of(text: Input) -> Sequence[str]:
    """Return the two texts of a pair, or the single text."""
    if isinstance(text, str):
        return (text,)
    return text


def _keep(keys: Collection[str]) -> None:
    """Let the browser keep the session's texts of these keys, and restore them after a reload.

    Call it before their widgets are drawn.
    """
    for key, text in st.session_state.pop(_SAID, {}).items():
        if key in keys and isinstance(text, str):
            st.session_state[key] = text[:LONGEST]
    # The style sheet takes this frame, which shows nothing, out of the page.
    with st.container(key=f"{_OWN}-kept-frame"):
        st.fragment(_store)(tuple(keys))


def _store(keys: Sequence[str]) -> None:
    answered = f"{_OWN}-kept"
    ask = answered not in st.session_state
    boxes = {}
    if not ask:
        boxes = {key: st.session_state[key] for key in keys if key in st.session_state}
    storage = st.components.v2.component("cahp_kept", js=_STORAGE)(
        key=f"{_OWN}-kept-boxes",
        data={"name": _OWN, "ask": ask, "boxes": boxes},
        height="content",
        on_answer_change=lambda: None,
    )
    if ask and isinstance(storage.answer, Mapping):
        st.session_state[answered] = True
        if storage.answer:
            st.session_state[_SAID] = storage.answer
            st.rerun()
