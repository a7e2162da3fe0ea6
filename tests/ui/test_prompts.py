"""A language model in the explorer: what it is asked, how a text then reads, and links that ask the same."""

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


def ask(model: str, answers: str = "") -> AppTest:
    """The dialog with a language model, and with answers to a prompt."""
    app = open_dialog()
    app.selectbox(key="source-model").set_value(OTHER_MODEL)
    rerun(app).text_input(key="source-model-name").set_value(model).run()
    for choice in app.segmented_control:
        if choice.key == "source-answers":
            choice.set_value("Answers to a prompt").run()
    app.text_input(key="prompt-answers").set_value(answers).run()
    return rerun(app)


def test_a_language_model_is_prompted_and_shows_a_prompted_text(folders: dict[str, str]) -> None:
    app = ask(folders["causal"])
    assert "A causal language model without a classification head" in text_of(app, "caption")
    assert not app.error
    app.text_area(key="prompt-causal").set_value("the film: {text} it was").run()
    app.text_input(key="prompt-answers").set_value("awful, great").run()
    app.selectbox(key="source-data-False").set_value(OTHER_DATA).run()
    app.text_input(key="source-data-name").set_value(folders["texts"]).run()
    first = json.loads(Path(folders["texts"], "train.jsonl").read_text().splitlines()[0])["text"]
    assert app.text[-1].value == f"the film: {first} it was"
    assert "awful** ('awful'), **great** ('great')" in text_of(app, "caption")
    assert "Labels match: bad = awful, good = great" in text_of(app, "caption")
    assert has_button(app, "use-source")


def test_a_masked_model_answers_at_its_mask(folders: dict[str, str]) -> None:
    app = ask(folders["masked"], "awful, great")
    app.text_area(key="prompt-masked").set_value("{text} it was").run()
    assert "a masked one answers at {mask} in its prompt" in text_of(app, "error")
    assert not has_button(app, "use-source")


def test_a_link_restores_the_prompt_after_consent(folders: dict[str, str]) -> None:
    asked = {"prompt": "the film: {text} it was", "answers": "awful,great"}
    app = open_dialog(model=folders["causal"], data=folders["texts"], **asked)
    assert "prompt “the film: {text} it was”" in text_of(app, "info")
    app.button(key="open-wish").click().run()
    assert not app.exception
    assert "3 layers × 4 heads = 12 · 2 classes" in text_of(app, "caption")
    assert "Prompt “the film: {text} it was”, answers awful, great" in text_of(app, "caption")
    assert {name: app.query_params[name] for name in asked} in (asked, {name: [asked[name]] for name in asked})
