import io
import json
import tempfile
from pathlib import Path
from typing import Any

import fakes
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apps import explorer_of, has_button, open_dialog, rerun, text_of
from hub import Hub
from streamlit.testing.v1 import AppTest

from cahp.ui.session.explorer import Explorer

FILE = "My files"

TOPICS = {
    "sports": ("The striker scored twice in the cup final", "The runner broke the record in the last lap"),
    "tech": ("The phone maker showed a new chip", "Engineers built a faster wireless network"),
    "business": ("Shares of the airline fell after a warning", "The bank raised its forecast for growth"),
    "politics": ("The minister defended the tax plan", "The opposition called for an election"),
    "show": ("The film opened to good reviews", "The singer cancelled her tour"),
}


def table(*, names: str = "text,label", rename: dict[str, str] | None = None) -> bytes:
    """A CSV file of our own sentences on five topics."""
    rows = [(text, (rename or {}).get(topic, topic)) for topic, texts in TOPICS.items() for text in texts]
    lines = [f'"{text}, report {number}.",{label}' for number in range(12) for text, label in rows]
    return "\n".join([names, *lines, ""]).encode()


def parquet(**columns: list[object]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


@pytest.fixture(scope="module")
def dialog() -> AppTest:
    """The dialog of several tests, in which a file takes the place of the one before."""
    return choose(open_dialog(), "Data", FILE)


@pytest.fixture
def app() -> AppTest:
    return choose(open_dialog(), "Data", FILE)


def choose(app: AppTest, label: str, value: str) -> AppTest:
    (box,) = [box for box in app.selectbox if box.label == label]
    box.set_value(value)
    return rerun(app)


def bring(app: AppTest, name: str, content: bytes) -> AppTest:
    app.file_uploader[0].set_value((name, content, "application/octet-stream"))
    return rerun(app)


def used(app: AppTest) -> Explorer:
    """Press the button of the dialog, and return what is explored then."""
    app.button(key="use-source").click().run()
    return explorer_of(rerun(app))


def box(app: AppTest, label: str) -> Any:
    """The choice with this label."""
    (one,) = [one for kind in (app.selectbox, app.segmented_control) for one in kind if label_of(one) == label]
    return one


def label_of(one: Any) -> str:
    return str(one.label).replace("\\", "")


def splits_of(app: AppTest) -> dict[str, str]:
    return {label_of(group): group.value for group in app.segmented_control}


def test_labels_are_matched_by_hand_and_choices_for_one_file_do_not_apply_to_the_next(app: AppTest) -> None:
    bring(app, "mine.csv", table())
    # A label that is no class of the model is not an error: the person chooses its class, and none is guessed.
    assert not app.error
    assert not has_button(app, "use-source")
    assert box(app, "show").value is None
    box(app, "show").set_value("entertainment").run()
    assert has_button(app, "use-source")
    bring(app, "other.csv", table(rename={"show": "theatre"}))
    assert [box(app, name).value for name in ("sports", "theatre")] == ["sports", None]
    assert not has_button(app, "use-source")
    # Nor are numbers that begin with another one than the model's.
    bring(app, "stars.csv", table(rename={topic: str(number + 1) for number, topic in enumerate(TOPICS)}))
    assert [box(app, str(number)).value for number in range(1, 6)] == [None] * 5
    assert not has_button(app, "use-source")
    for number, topic in enumerate(TOPICS):
        box(app, str(number + 1)).set_value("entertainment" if topic == "show" else topic).run()
    # In the order of the model: business, entertainment, politics, sports, tech.
    assert used(app).bench.class_names == ("3", "5", "4", "1", "2")


def test_a_text_file_has_a_document_per_paragraph_or_line_and_no_labels(app: AppTest) -> None:
    rows = [text for texts in TOPICS.values() for text in texts]
    paragraphs = "\n\n".join(f"Report {number}.\n{text}." for number in range(4) for text in rows)
    # A file without blank lines is one paragraph, so its lines are documents.
    bring(app, "lines.txt", paragraphs.replace("\n\n", "\n").encode())
    assert box(app, "Each document is a").value == "line"
    bring(app, "notes.txt", paragraphs.encode())
    assert box(app, "Each document is a").value == "paragraph"
    assert "No labels" in text_of(app, "caption")
    box(app, "Each document is a").set_value("line").run()
    source = used(app).source
    assert source.settings.documents == "line"
    assert sum(len(texts) for texts in source.raw.splits.values()) == 80


#: Files that are hostile, or that no reader's own tests have; the others are refused where they are read.
ODD = {
    "html.csv": b"<script>alert(1)</script>,<img src=x onerror=alert(1)>\n<b>x</b>,![x](http://evil.example/x)\n",
    "formula.csv": b'text,label\n"=HYPERLINK(""http://evil.example"")",sports\n',
    "numbers.parquet": parquet(text=[1, 2], label=[0, 1]),
    "nothing.parquet": parquet(text=[], label=[]),
    "many-classes.csv": b"text,label\n" + b"".join(b"t%d,c%d\n" % (n, n) for n in range(60)),
    "../../../etc/passwd.csv": b"root:x:0:0\n",
    "nameless.csv": b" , \n" + b"a b,sports\n" * 20,
    "huge-cell.csv": b"text,label\n" + b"w" * 5_000_000 + b",sports\nx y,business\n",
    "half-pair-in-a-name.jsonl": b'{"te\\ud800xt": "a", "label": "sports"}\n' * 3,
    "huge-number.json": b'{"text": ' + b"1" * 100_000 + b', "label": 1}',
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_is_refused_in_a_sentence_and_nothing_breaks(dialog: AppTest, name: str) -> None:
    bring(dialog, name, ODD[name])
    assert not has_button(dialog, "use-source")
    said = text_of(dialog, "error")
    assert said
    # Where the file lay for a moment is nobody's business.
    assert tempfile.gettempdir() not in said
    assert "Traceback" not in said
    # What stands in a file is shown as it is, and never as markup.
    shown = [text.value for kind in (dialog.error, dialog.warning, dialog.caption, dialog.markdown) for text in kind]
    assert not any("![" in text or "<img" in text or "<script" in text for text in shown)


def test_several_files_are_train_validation_and_test_by_their_names(app: AppTest) -> None:
    mine = table(rename={"show": "entertainment"}, names="review,topic")
    files = [(f"{name}.csv", mine, "text/csv") for name in ("reviews-test", "reviews-train", "reviews-dev")]
    app.file_uploader[0].set_value(files)
    rerun(app)
    assert splits_of(app) == {"reviews-test.csv": "test", "reviews-train.csv": "train", "reviews-dev.csv": "validation"}
    assert has_button(app, "use-source")
    # Two of one kind: a sentence, and nothing that was brought or chosen is lost.
    box(app, "reviews-test.csv").set_value("train").run()
    assert "several train splits" in text_of(app, "error")
    assert not has_button(app, "use-source")
    box(app, "reviews-test.csv").set_value("not used").run()
    assert box(app, "Text").value == "review"
    assert has_button(app, "use-source")


def at(app: AppTest, place: object) -> AppTest:
    choose(app, "Data", "A folder, a preset or hub data…")
    app.text_input(key="source-data-name").set_value(str(place))
    return rerun(app)


def test_a_folder_has_the_same_choices_as_an_upload(app: AppTest, tmp_path: Path) -> None:
    # As people have them: other columns, other names of files, and one that is no use.
    mine = table(rename={"show": "Entertainment"}, names="question,kind")
    (tmp_path / "survey_train.csv").write_bytes(mine)
    (tmp_path / "held_out.csv").write_bytes(mine)
    (tmp_path / "notes.tsv").write_bytes(b"broken\0")
    at(app, tmp_path)
    assert splits_of(app) == {"held_out.csv": "not used", "notes.tsv": "not used", "survey_train.csv": "train"}
    assert box(app, "Text").value == "question"
    assert box(app, "Label").value == "kind"
    # A file that serves and is broken is named, and nothing that was chosen is lost.
    box(app, "notes.tsv").set_value("validation").run()
    assert "notes.tsv" in text_of(app, "error")
    assert not has_button(app, "use-source")
    box(app, "notes.tsv").set_value("not used").run()
    box(app, "held_out.csv").set_value("validation").run()
    source = used(app).source
    assert source.settings.splits == {"held_out.csv": "validation", "survey_train.csv": "train"}
    assert (source.settings.text_column, source.settings.label_column) == ("question", "kind")
    assert len(source.raw.splits["validation"]) == len(source.raw.splits["train"]) == 120


def test_a_model_on_the_hub_is_described_before_a_weight_is_fetched(app: AppTest, hub: Hub, tmp_path: Path) -> None:
    hub.add("org/model", fakes.save_model(tmp_path / "model"))
    choose(app, "Model", "A folder, a GGUF file or a Hugging Face id…")
    app.text_input(key="source-model-name").set_value("org/model").run()
    # The hub is not asked before a person agrees.
    assert hub.requests == []
    app.checkbox(key="hub-org/model").check().run()
    assert "3 layers × 4 heads" in text_of(app, "caption")
    asked = len(hub.requests)
    at(app, fakes.write_data(tmp_path / "data"))
    assert app.button(key="use-source").label == "Download 120 kB and use this model and data"
    # Another choice sends no request to the hub.
    assert len(hub.requests) == asked
    assert set(hub.fetched()) == {"config.json", "model.safetensors"}
    app.button(key="use-source").click().run()
    assert "tokenizer.json" in hub.fetched()


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
    # A masked one answers at its mask.
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
