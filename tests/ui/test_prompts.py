"""A language model in the explorer: what it is asked, how a text then reads, and links that ask the same."""

from __future__ import annotations

import json
from pathlib import Path

import fakes
import pytest
from apps import has_button, open_dialog, rerun, text_of
from streamlit.testing.v1 import AppTest

OTHER_MODEL, OTHER_DATA = "A folder, a GGUF file or a Hugging Face id…", "A folder, a preset or hub data…"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("prompts")
    return {
        "causal": str(fakes.save_language_model(place / "causal")),
        "masked": str(fakes.save_language_model(place / "masked", "masked")),
        "texts": str(fakes.write_data(place / "texts", train=40, validation=20, test=5)),
    }


@pytest.fixture
def app() -> AppTest:
    app = open_dialog()
    app.selectbox(key="source-model").set_value(OTHER_MODEL)
    return rerun(app)


def shown(app: AppTest) -> list[str]:
    return [text.value for text in app.text]


def prompted(app: AppTest) -> None:
    """Choose that a causal model answers a prompt."""
    for choice in app.segmented_control:
        if choice.key == "source-answers":
            choice.set_value("Answers to a prompt").run()


def ask(app: AppTest, folder: str, answers: str, data: str | None = None) -> AppTest:
    app.text_input(key="source-model-name").set_value(folder).run()
    prompted(app)
    app.text_input(key="prompt-answers").set_value(answers).run()
    if data is not None:
        app.selectbox(key="source-data-False").set_value(OTHER_DATA).run()
        app.text_input(key="source-data-name").set_value(data).run()
    return rerun(app)


def test_a_language_model_is_prompted_and_shows_a_prompted_text(app: AppTest, folders: dict[str, str]) -> None:
    app.text_input(key="source-model-name").set_value(folders["causal"]).run()
    prompted(app)
    assert "A causal language model without a classification head" in text_of(app, "caption")
    assert not app.error
    app.text_area(key="prompt-causal").set_value("the film: {text} it was").run()
    ask(app, folders["causal"], "awful, great", folders["texts"])
    first = json.loads(Path(folders["texts"], "train.jsonl").read_text().splitlines()[0])["text"]
    assert shown(app)[-1] == f"the film: {first} it was"
    assert "awful** ('awful'), **great** ('great')" in text_of(app, "caption")
    assert "Labels match: bad = awful, good = great" in text_of(app, "caption")
    assert has_button(app, "use-source")


def test_a_masked_model_answers_at_its_mask(app: AppTest, folders: dict[str, str]) -> None:
    ask(app, folders["masked"], "awful, great")
    app.text_area(key="prompt-masked").set_value("{text} it was").run()
    assert "a masked one answers at {mask} in its prompt" in text_of(app, "error")
    assert not has_button(app, "use-source")


def test_a_link_restores_the_prompt_after_consent(app: AppTest, folders: dict[str, str]) -> None:
    wanted = {
        "model": folders["causal"],
        "data": folders["texts"],
        "prompt": "the film: {text} it was",
        "answers": "awful,great",
    }
    linked = open_dialog(**wanted)
    assert "prompt “the film: {text} it was”" in text_of(linked, "info")
    linked.button(key="open-wish").click().run()
    assert not linked.exception
    assert "3 layers × 4 heads = 12 · 2 classes" in text_of(linked, "caption")
    assert "Prompt “the film: {text} it was”, answers awful, great" in text_of(linked, "caption")
    said = {name: value[0] if isinstance(value, list) else value for name, value in linked.query_params.items()}
    assert {name: said[name] for name in ("prompt", "answers")} == {
        name: wanted[name] for name in ("prompt", "answers")
    }
