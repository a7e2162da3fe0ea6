"""``cahp attribute`` and ``cahp.attribute`` as their users meet them."""

import json
from pathlib import Path

import copying
import fakes
import pytest
from terminal import call, refused

import cahp
from cahp.features.attribution import measuring

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = "the film was great and very long"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("attribution")
    fakes.save_model(place / "model")
    fakes.write_data(place / "data")
    copying.save_copying_model(place / "copying")
    (place / "texts.txt").write_text("\n\n".join(fakes.sentences(300).first))
    return place


def options(place: Path) -> list[object]:
    return ["--data", place / "data", "--device", "cpu"]


def test_a_text_has_its_top_heads_and_the_mask_that_it_needs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["attribute", place / "model", *options(place), "--text", TEXT]
    answer = call(*given, "--top", 3, "--out", place / "needed.json", "--json")
    assert (answer.code, answer.err) == (0, "")
    document = answer.document
    assert [len(document["top"]), len(document["random"]["changes"])] == [3, 10]
    assert document["baseline"].startswith("mean over ")
    changes = sorted(change for layer in document["changes"] for change in layer)
    assert [one["estimated"] for one in document["top"]] == changes[:3]
    assert TEXT not in answer.out
    assert cahp.read_mask(place / "needed.json").kept == document["needed"]["kept"]
    written = json.loads((place / "needed.json").read_text())
    assert (written["method"], written["model_sha256"]) == ("attribution", cahp.load(str(place / "model")).card.origin)
    # The baseline comes from the store.
    monkeypatch.setattr(measuring, "measure_baseline", lambda *_, **__: pytest.fail("measured again"))
    lines = call(*given).out.splitlines()
    assert lines[0].startswith(f'  {document["model"]}, 9 tokens, answer "{document["answer"]}", probability ')
    assert any(line.startswith("  without the top 6 of 12 heads") for line in lines)


def test_a_prompted_language_model_is_a_classifier(place: Path) -> None:
    prompt = {"prompt": "{text} it was", "answers": ["bad", "good"]}
    result = cahp.attribute(place / "copying", "a dull plot", data=place / "data", device="cpu", **prompt)
    assert result.metric == "log-probability of the class"
    assert result.answer in ("neg", "pos", "bad", "good")


@pytest.mark.parametrize(("given", "words"), [([], "a text is needed"), (["--text", TEXT, "--top", 0], "--top")])
def test_bad_input_is_refused_in_one_line(place: Path, given: list[object], words: str) -> None:
    assert words in refused(call("attribute", place / "model", *options(place), *given))


def test_no_mask_keeps_an_answer_that_the_model_does_not_give(place: Path) -> None:
    model = cahp.load(str(place / "model"), device="cpu")
    predicted = cahp.attribute(model, TEXT, data=place / "data").predicted
    (other,) = set(model.card.labels) - {predicted}
    given = ["--text", TEXT, "--answer", other, "--out", place / "none.json"]
    answer = call("attribute", place / "model", *options(place), *given)
    # What was measured is printed all the same.
    assert (answer.code, "Change of the log-probability" in answer.out) == (2, True)
    assert "so no mask keeps" in answer.err
    assert not (place / "none.json").exists()
