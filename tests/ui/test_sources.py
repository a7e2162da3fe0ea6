from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import fakes
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apps import explorer_of, has_button, open_dialog, rerun, text_of
from hub import asked_here, serving
from streamlit.testing.v1 import AppTest

from cahp.ui.session.explorer import Explorer

FILE = "My files (text, CSV, TSV, JSONL, Parquet)"

TOPICS = {
    "sports": ("The striker scored twice in the cup final", "The runner broke the record in the last lap"),
    "tech": ("The phone maker showed a new chip", "Engineers built a faster wireless network"),
    "business": ("Shares of the airline fell after a warning", "The bank raised its forecast for growth"),
    "politics": ("The minister defended the tax plan", "The opposition called for an election"),
    "show": ("The film opened to good reviews", "The singer cancelled her tour"),
}


def table(*, names: str = "text,label", rename: dict[str, str] | None = None, rounds: int = 12) -> bytes:
    """A CSV file of our own sentences on five topics."""
    renamed = rename or {}
    lines = [
        f'"{text}, report {number}.",{renamed.get(topic, topic)}'
        for number in range(rounds)
        for topic, texts in TOPICS.items()
        for text in texts
    ]
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


def named(app: AppTest, key: str, name: str) -> AppTest:
    """Type the name of a model or of data."""
    app.text_input(key=key).set_value(name)
    return rerun(app)


def used(app: AppTest) -> Explorer:
    """Press the button of the dialog, and return what is explored then."""
    app.button(key="use-source").click().run()
    return explorer_of(rerun(app))


def errors(app: AppTest) -> str:
    return text_of(app, "error")


def usable(app: AppTest) -> bool:
    return has_button(app, "use-source")


def box(app: AppTest, label: str) -> Any:
    """The choice with this label."""
    (one,) = [one for kind in (app.selectbox, app.segmented_control) for one in kind if plain(one.label) == label]
    return one


def plain(label: str) -> str:
    return label.replace("\\", "")


def test_numbers_that_begin_with_another_one_are_matched_by_hand(app: AppTest) -> None:
    bring(app, "stars.csv", table(rename={topic: str(number + 1) for number, topic in enumerate(TOPICS)}))
    assert [box(app, str(number)).value for number in range(1, 6)] == [None] * 5
    assert not usable(app)
    for number, topic in enumerate(TOPICS):
        box(app, str(number + 1)).set_value("entertainment" if topic == "show" else topic).run()
    # In the order of the model: business, entertainment, politics, sports, tech.
    assert used(app).bench.class_names == ("3", "5", "4", "1", "2")


def test_labels_are_matched_by_hand_and_choices_for_one_file_do_not_apply_to_the_next(app: AppTest) -> None:
    bring(app, "mine.csv", table())
    # A label that is no class of the model is not an error: the person chooses its class, and none is guessed.
    assert not app.error
    assert not usable(app)
    assert box(app, "show").value is None
    box(app, "show").set_value("entertainment").run()
    assert usable(app)
    bring(app, "other.csv", table(rename={"show": "theatre"}))
    assert [box(app, name).value for name in ("sports", "theatre")] == ["sports", None]
    assert not usable(app)


def no_labels(app: AppTest) -> bool:
    return "No labels" in text_of(app, "caption")


def paragraphs() -> str:
    """Texts of several lines on five topics, with blank lines between them."""
    rows = [text for texts in TOPICS.values() for text in texts]
    return "\n\n".join(f"Report {number}.\n{text}." for number in range(4) for text in rows)


def test_a_text_file_has_a_document_per_paragraph_or_line_and_no_labels(app: AppTest) -> None:
    # A file without blank lines is one paragraph, so its lines are documents.
    bring(app, "lines.txt", paragraphs().replace("\n\n", "\n").encode())
    assert box(app, "Each document is a").value == "line"
    bring(app, "notes.txt", paragraphs().encode())
    assert box(app, "Each document is a").value == "paragraph"
    assert no_labels(app)
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
    assert not usable(dialog)
    said = errors(dialog)
    assert said
    # Where the file lay for a moment is nobody's business.
    assert tempfile.gettempdir() not in said
    assert "Traceback" not in said
    # What stands in a file is shown as it is, and never as markup.
    shown = [text.value for kind in (dialog.error, dialog.warning, dialog.caption, dialog.markdown) for text in kind]
    assert not any("![" in text or "<img" in text or "<script" in text for text in shown)


def splits_said(app: AppTest) -> dict[str, str]:
    return {group.label.replace("\\", ""): group.value for group in app.segmented_control}


def test_several_files_are_train_validation_and_test_by_their_names(app: AppTest) -> None:
    mine = table(rename={"show": "entertainment"}, names="review,topic")
    files = [(f"{name}.csv", mine, "text/csv") for name in ("reviews-test", "reviews-train", "reviews-dev")]
    app.file_uploader[0].set_value(files)
    rerun(app)
    assert splits_said(app) == {
        "reviews-test.csv": "test",
        "reviews-train.csv": "train",
        "reviews-dev.csv": "validation",
    }
    assert usable(app)
    # Two of one kind: a sentence, and nothing that was brought or chosen is lost.
    box(app, "reviews-test.csv").set_value("train").run()
    assert "several train splits" in errors(app)
    assert not usable(app)
    box(app, "reviews-test.csv").set_value("not used").run()
    assert box(app, "Text").value == "review"
    assert usable(app)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as people have it: other columns, other names of files, and one that is no use."""
    mine = table(rename={"show": "Entertainment"}, names="question,kind")
    (tmp_path / "survey_train.csv").write_bytes(mine)
    (tmp_path / "held_out.csv").write_bytes(mine)
    (tmp_path / "notes.tsv").write_bytes(b"broken\0")
    return tmp_path


def at(app: AppTest, place: object) -> AppTest:
    return named(choose(app, "Data", "A folder, a preset or hub data…"), "source-data-name", str(place))


def model_at(app: AppTest, place: object) -> AppTest:
    return named(choose(app, "Model", "A folder, a GGUF file or a Hugging Face id…"), "source-model-name", str(place))


def test_a_folder_has_the_same_choices_as_an_upload(app: AppTest, folder: Path) -> None:
    at(app, folder)
    assert splits_said(app) == {
        "held_out.csv": "not used",
        "notes.tsv": "not used",
        "survey_train.csv": "train",
    }
    assert box(app, "Text").value == "question"
    assert box(app, "Label").value == "kind"
    # A file that serves and is broken is named, and nothing that was chosen is lost.
    box(app, "notes.tsv").set_value("validation").run()
    assert "notes.tsv" in errors(app)
    assert not usable(app)
    box(app, "notes.tsv").set_value("not used").run()
    box(app, "held_out.csv").set_value("validation").run()
    source = used(app).source
    assert source.settings.splits == {"held_out.csv": "validation", "survey_train.csv": "train"}
    assert (source.settings.text_column, source.settings.label_column) == ("question", "kind")
    assert len(source.raw.splits["validation"]) == len(source.raw.splits["train"]) == 120


def test_a_model_on_the_hub_is_described_before_a_weight_is_fetched(app: AppTest, tmp_path: Path) -> None:
    with serving() as hub, asked_here(hub, tmp_path / "hf"):
        hub.add("org/model", fakes.save_model(tmp_path / "model"))
        model_at(app, "org/model")
        # The hub is not asked before a person agrees.
        assert hub.requests == []
        app.checkbox(key="hub-org/model").check().run()
        assert "3 layers × 4 heads" in text_of(app, "caption")
        asked = len(hub.requests)
        at(app, fakes.write_data(tmp_path / "data"))
        assert app.button(key="use-source").label == "Download 120 kB and use this model and data"
        # Whoever goes on choosing does not ask again.
        assert len(hub.requests) == asked
        assert set(hub.fetched()) == {"config.json", "model.safetensors"}
        app.button(key="use-source").click().run()
        assert "tokenizer.json" in hub.fetched()
