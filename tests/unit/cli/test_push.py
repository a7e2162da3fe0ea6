"""``cahp export --push``: a pruned model becomes a new repository of the hub, or one line says why not."""

from pathlib import Path
from unittest.mock import Mock

import fakes
import numpy as np
import pytest
from hub import Hub
from safetensors import safe_open
from terminal import Answer, call, refused

from cahp.exports.masks import MaskOrigin, mask_json
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


def test_the_weights_name_their_origin(line: list[object], tmp_path: Path) -> None:
    assert call(*line).code == 0
    with safe_open(tmp_path / "small" / "model.safetensors", "np") as file:
        facts = file.metadata()
    assert (facts["format"], facts["cahp.model"], facts["cahp.recovery"]) == ("pt", "org/tiny", "none")
    assert facts["cahp.mask.sha256"] == MASK.sha256
    assert facts["cahp.command"].startswith("cahp export --model org/tiny ")
    assert set(facts) >= {"cahp.version", "cahp.model.sha256", "cahp.method"}


#: How the hub answers to a commit, and the message. None: it refuses the token, and has no repository afterwards.
FAILURES = {
    None: "your token may not read or write org/small; renew or allow it",
    0: "the hub cannot be reached for org/small; check the connection",
    503: "the hub answered with error 503 for org/small; try again later",
}


def test_a_failed_upload_leaves_the_folder_and_can_be_repeated(line: list[object], hub: Hub, tmp_path: Path) -> None:
    for code, why in FAILURES.items():
        hub.commits = code
        if code is None:
            hub.writers.clear()
        answer = pushed(line, "--yes", "--json")
        assert answer.code == 2
        assert answer.err.startswith(f"cahp: {tmp_path / 'small'} was written, but not uploaded: {why}")
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
def test_what_cannot_be_pushed_is_refused(more: tuple[str, ...], why: str, line: list[object], tmp_path: Path) -> None:
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


def test_of_a_full_disk_nothing_is_uploaded(line: list[object], hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "write_text", Mock(side_effect=OSError(28, "No space left on device")))
    assert "(No space left on device); free some space there" in refused(pushed(line, "--yes"))
    assert "org/small" not in hub.repositories
