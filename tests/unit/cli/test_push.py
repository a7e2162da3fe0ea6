"""``cahp export --push``: a pruned model becomes a new repository of the hub, or one line says why not."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import fakes
import numpy as np
import pytest
from hub import Hub
from huggingface_hub import ModelCard
from safetensors import safe_open
from terminal import Answer, call, refused

from cahp.exports.masks import MaskOrigin, mask_json
from cahp.models.identity import MINILM, base_of, identify
from cahp.values import HeadMask

pytestmark = pytest.mark.usefixtures("one_thread", "read_back_here")

TOKEN = "hf_secret"
MASK = HeadMask(np.array([[True, False, True, False], [False, True, False, False], [True, True, True, True]]))


@pytest.fixture(scope="module")
def model(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def line(hub: Hub, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """An export of a model on the hub, to which the person may write."""
    hub.add("org/tiny", model)
    hub.writers.add(TOKEN)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    (tmp_path / "mask.json").write_bytes(mask_json(MASK, MaskOrigin("org/tiny", "by hand", budget={})))
    given = ["--model", "org/tiny", "--mask", tmp_path / "mask.json", "--out", tmp_path / "small", "--no-latency"]
    return ["export", *given]


def pushed(line: list[object], *more: object) -> Answer:
    """Push to ``org/small``; the token is in no output."""
    answer = call(*line, "--push", "org/small", *more)
    assert TOKEN not in answer.out + answer.err
    return answer


def test_a_pushed_model_is_private_and_holds_what_was_written(line: list[object], hub: Hub, tmp_path: Path) -> None:
    answer = pushed(line, "--yes")
    assert answer.code == 0, answer.err
    assert f"  uploaded  {hub.address}/org/small\n" in answer.out
    repository = hub.repositories["org/small"]
    files = repository.commits[repository.names["main"]]
    # Reading the model back may leave a folder of Python's.
    written = {path.name: path.read_bytes() for path in (tmp_path / "small").iterdir() if path.is_file()}
    # The mark tells this machine which files are ours; the hub makes the other one.
    written.pop("cahp.json")
    assert files == {**written, ".gitattributes": b""}
    assert repository.private
    assert not any(TOKEN.encode() in content for content in files.values())


def test_what_else_lies_in_the_folder_is_not_uploaded(line: list[object], hub: Hub, tmp_path: Path) -> None:
    assert call(*line).code == 0
    (tmp_path / "small" / "notes.txt").write_text("private")
    (tmp_path / "small" / "data").mkdir()
    (tmp_path / "small" / "data" / "texts.csv").write_text("private")
    assert pushed(line, "--yes").code == 0
    repository = hub.repositories["org/small"]
    files = set(repository.commits[repository.names["main"]])
    assert {"model.safetensors", "README.md", "load_pruned.py"} <= files
    assert not files & {"notes.txt", "data/texts.csv"}
    assert (tmp_path / "small" / "notes.txt").exists()


def test_a_model_is_public_only_if_that_is_asked_for(line: list[object], hub: Hub) -> None:
    assert pushed(line, "--yes", "--push-public").code == 0
    assert not hub.repositories["org/small"].private


def test_the_card_says_in_the_words_of_the_hub_what_the_model_is(line: list[object], tmp_path: Path) -> None:
    data = fakes.write_data(tmp_path / "reviews", train=60, validation=30)
    answer = call(*line, "--data", data, "--recover", "refit", "--json")
    assert answer.code == 0, answer.err
    card = ModelCard.load(tmp_path / "small" / "README.md").data
    assert (card.base_model, card.base_model_relation) == ("org/tiny", "finetune")
    # Its class of transformers refuses smaller layers, so no library of the hub loads it by itself.
    assert (card.library_name, card.pipeline_tag) == (None, "text-classification")
    assert card.model_name == "tiny-7-of-12-heads"
    measured = answer.document["outcomes"]["recovered"]["accuracy"]
    (accuracy,) = (one for one in card.eval_results if one.metric_type == "accuracy")
    assert accuracy.metric_value == pytest.approx(measured["value"], rel=1e-5)
    assert accuracy.metric_args["ci95"] == pytest.approx(measured["ci95"], rel=1e-5)
    assert (accuracy.metric_args["n"], accuracy.metric_args["unit"]) == (30, "share")
    assert (accuracy.dataset_name, accuracy.dataset_split) == ("reviews", "validation")
    assert accuracy.dataset_args["protocol"].endswith(" tokens of each text")


def test_the_weights_name_their_origin(line: list[object], tmp_path: Path) -> None:
    assert call(*line).code == 0
    with safe_open(tmp_path / "small" / "model.safetensors", "np") as file:
        facts = file.metadata()
    assert (facts["format"], facts["cahp.model"], facts["cahp.recovery"]) == ("pt", "org/tiny", "none")
    assert facts["cahp.mask.sha256"] == MASK.sha256
    assert facts["cahp.command"].startswith("cahp export --model org/tiny ")
    assert set(facts) >= {"cahp.version", "cahp.model.sha256", "cahp.method"}


def test_a_base_is_named_by_its_id_on_the_hub(model: Path) -> None:
    assert base_of(identify(str(model))) is None
    assert base_of(identify("minilm-bbc")) == MINILM


def hang_up(hub: Hub) -> None:
    hub.commits = 0


def fail(hub: Hub) -> None:
    hub.commits = 503


def forbid(hub: Hub) -> None:
    hub.writers.clear()


#: The first one leaves no repository on the hub.
FAILURES = {
    forbid: "your token may not read or write org/small; renew or allow it",
    hang_up: "the hub cannot be reached for org/small; check the connection",
    fail: "the hub answered with error 503 for org/small; try again later",
}


def test_a_failed_upload_leaves_the_folder_and_can_be_repeated(line: list[object], hub: Hub, tmp_path: Path) -> None:
    for change, why in FAILURES.items():
        change(hub)
        answer = pushed(line, "--yes", "--json")
        assert answer.code == 2
        assert answer.err.startswith(f"cahp: {tmp_path / 'small'} was written, but not uploaded: {why}")
        assert answer.document["pushed"] is None
        assert (tmp_path / "small" / "model.safetensors").is_file()
        hub.commits = None
        hub.writers.add(TOKEN)
    assert pushed(line, "--yes").code == 0


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ((), "the upload to org/small needs your consent: add --yes, or leave out --push"),
        (("--yes", "--push", "small"), "'small' is no name of a repository; write org/name"),
        (("--yes", "--push", "org/no name"), "'org/no name' is no name of a repository; write org/name"),
        (("--yes", "--push", "org/tiny"), "org/tiny exists on the hub and holds config.json; choose another name"),
        (("--yes", "--format", "npy"), "--push uploads a model, and npy is a mask alone; leave it out"),
    ],
)
def test_what_cannot_be_pushed_is_refused_before_the_work(
    more: tuple[str, ...], why: str, line: list[object], tmp_path: Path
) -> None:
    assert refused(pushed(line, *more)).startswith(why)
    assert not (tmp_path / "small").exists()


def test_a_push_needs_a_token_and_a_name(line: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "")
    assert refused(pushed(line, "--yes")).startswith(
        "the upload to org/small needs a token that may write; set HF_TOKEN"
    )
    assert refused(call(*line, "--push-public")) == "--push-public needs a repository; name it with --push"
    assert not (tmp_path / "small").exists()


def test_an_empty_repository_that_everybody_reads_takes_no_private_model(line: list[object], hub: Hub) -> None:
    hub.add("org/small", {".gitattributes": b""})
    assert "org/small exists on the hub, with another visibility" in refused(pushed(line, "--yes"))
    assert pushed(line, "--yes", "--push-public").code == 0


def test_a_full_disk_is_one_line_and_nothing_is_uploaded(
    line: list[object], hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    answer = pushed(line, "--yes")
    assert answer.code == 2
    assert json.dumps(answer.err).count("\\n") == 1
    assert "(No space left on device); free some space there" in answer.err
    assert "org/small" not in hub.repositories
    assert not (tmp_path / "small").exists()
