"""Models on the hub: what is fetched of them and what is not, by the real client from a small server."""

from pathlib import Path
from typing import Any

import fakes
import pytest
import torch
from fakes import configure
from hub import Hub, asked_here, files_in, serving
from safetensors.torch import load_file

from cahp import hub as hub_client
from cahp import models
from cahp.values import ModelError
from cahp.words import size_of

pytestmark = pytest.mark.usefixtures("one_thread")

#: The client reads so many bytes of a weight file to find its header.
HEADER_BYTES = 100_001
LISTED = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def why_not(name: str) -> str:
    return fakes.reason(ModelError, models.identify, name)


def test_what_is_not_needed_is_not_fetched(hub: Hub, sound: Path) -> None:
    beside = dict.fromkeys(
        ("pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "onnx/model.onnx", "openvino/model.json"), b"\0" * 99
    )
    more = {"README.md": b"#", "vocab.txt": b"[PAD]", "training_args.bin": b"\0", "model.fp16.safetensors": b"\0"}
    # An export must not lose them.
    along = {"chat_template.jinja": b"{{ messages }}", "generation_config.json": b"{}"}
    commit = hub.add("org/name", {**files_in(sound), **beside, **more, **along})
    card = models.identify("org/name")
    assert set(hub.fetched()) == LISTED | set(along)
    assert (card.id, card.revision) == ("org/name", commit)
    assert card.sha256 == models.identify(str(sound)).sha256
    before = len(hub.requests)
    assert models.load(card, device="cpu").layers == 3
    assert len(hub.requests) == before


def test_a_look_fetches_the_configuration_and_no_weight(hub: Hub, sound: Path) -> None:
    hub.add("org/name", sound)
    card = models.preview("org/name")
    assert (card.layers, card.heads, card.labels, card.sha256) == (3, 4, ("bad", "good"), "")
    assert set(hub.fetched()) == {"config.json", "model.safetensors"}
    assert hub.fetched_whole() == {"config.json"}
    assert hub.fetched()["model.safetensors"] <= HEADER_BYTES
    assert card.details["parameters"] == models.load(str(sound), device="cpu").parameters
    assert card.details["missing"] == sum((sound / file).stat().st_size for file in LISTED - {"config.json"})


def test_weights_in_several_files_are_fetched_by_their_index(hub: Hub, sound: Path, folder: Path) -> None:
    fakes.split_weights(folder)
    listed = files_in(folder)
    hub.add("org/name", {**listed, "model-3.safetensors": b"no part of it"})
    models.preview("org/name")
    assert not {"model-1.safetensors", "model-2.safetensors"} & hub.fetched_whole()
    loaded = models.load("org/name", device="cpu")
    weights = load_file(sound / "model.safetensors")
    assert torch.equal(loaded.network.classifier.weight.cpu(), weights["classifier.weight"])
    assert "model-3.safetensors" not in hub.fetched()
    hub.requests.clear()
    models.preview("org/name")
    assert not {"model-1.safetensors", "model-2.safetensors"} & {*hub.fetched()}
    del listed["model-2.safetensors"]
    hub.add("org/part", listed)
    assert "model-2.safetensors" in why_not("org/part")


@pytest.mark.parametrize("revision", ["v1", "commit"])
def test_a_revision_is_honoured_and_its_commit_recorded(hub: Hub, sound: Path, folder: Path, revision: str) -> None:
    configure(folder, id2label={"0": "no", "1": "yes"})
    old = hub.add("org/name", folder, tag="v1")
    new = hub.add("org/name", sound)
    asked = old if revision == "commit" else revision
    card = models.identify(f"org/name@{asked}")
    assert (card.id, card.revision, card.labels) == ("org/name", old, ("no", "yes"))
    before = len(hub.requests)
    assert models.name_of(card) == f"org/name@{old}"
    assert models.identify(f"org/name@{old}") == card
    # A commit does not change, so nobody is asked for it again.
    assert len(hub.requests) == before
    assert models.identify("org/name").revision == new


@pytest.mark.parametrize(
    ("entries", "named", "fetched"),
    [
        ({"model_type": "no-such-type"}, "no-such-type", {"config.json"}),
        ({"problem_type": "regression", "id2label": {"0": "score"}}, "problem_type regression", {"config.json"}),
        ({"hidden_size": 33}, "no multiple of its", {"config.json"}),
        # The header of the weights says their shapes.
        ({"vocab_size": 1_000_000}, "other shapes", {"config.json", "model.safetensors"}),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, "classifier.bias", {"config.json", "model.safetensors"}),
        (
            {"num_hidden_layers": 900, "hidden_size": 8192, "num_attention_heads": 64},
            "they do not belong together",
            {"config.json", "model.safetensors"},
        ),
    ],
)
def test_a_model_of_no_use_is_refused_by_its_configuration(
    hub: Hub, folder: Path, entries: dict[str, Any], named: str, fetched: set[str]
) -> None:
    configure(folder, **entries)
    hub.add("org/name", folder)
    assert named in why_not("org/name")
    assert set(hub.fetched()) == fetched
    assert hub.fetched_whole() == {"config.json"}


@pytest.mark.parametrize(
    ("without", "extra", "named"),
    [
        ("model.safetensors", "pytorch_model.bin", "any code"),
        ("model.safetensors", "README.md", "lacks its weights"),
        ("config.json", "README.md", "no config.json"),
        ("tokenizer.json", "README.md", "no tokenizer"),
    ],
)
def test_a_repository_that_lacks_a_part_is_refused(hub: Hub, sound: Path, without: str, extra: str, named: str) -> None:
    files = {**files_in(sound), extra: b"\x80\x04cposix\nsystem\n"}
    del files[without]
    hub.add("org/name", files)
    assert named in why_not("org/name")
    assert set(hub.fetched()) <= {"config.json"}


def test_what_is_large_is_fetched_with_consent_alone(hub: Hub, sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/name", sound)
    monkeypatch.setattr(hub_client, "FREE", 1000)
    said = why_not("org/name")
    assert "--yes" in said
    assert "120 kB" in said
    asked: list[str] = []

    def ask(question: str) -> bool:
        asked.append(question)
        return len(asked) > 1

    with hub_client.consent_from(ask):
        assert "consent" in why_not("org/name")
        assert hub.fetched_whole() == {"config.json"}
        models.identify("org/name")
        models.identify("org/name")
    size = sum((sound / file).stat().st_size for file in LISTED - {"config.json"})
    assert asked == [f"org/name takes {size_of(size)} to download. Download it?"] * 2


def test_downloads_report_bytes_and_print_nothing(hub: Hub, sound: Path, capfd: pytest.CaptureFixture[str]) -> None:
    hub.add("org/name", sound)
    seen: list[tuple[str, int, int]] = []
    with hub_client.progress_to(lambda *one: seen.append(one)):
        models.identify("org/name")
    size = sum((sound / file).stat().st_size for file in LISTED - {"config.json"})
    assert seen[-1] == ("download", size, size)
    assert capfd.readouterr() == ("", "")


def test_a_gated_model_says_where_to_accept_its_terms(hub: Hub, sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/name", sound, gated=True, token="hf_right")
    said = why_not("org/name")
    assert f"accept its terms at {hub.address}/org/name" in said
    assert "HF_TOKEN" in said
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert models.identify("org/name").layers == 3


def test_a_server_that_is_gone_is_one_sentence_and_what_was_fetched_is_used(sound: Path, tmp_path: Path) -> None:
    with serving() as hub:
        commit = hub.add("org/name", sound)
        with asked_here(hub, tmp_path / "hf"):
            card = models.identify("org/name")
            hub.add("org/half", sound)
            models.preview("org/half")
    with asked_here(hub, tmp_path / "hf"):
        assert models.identify("org/name") == card
        assert models.identify(f"org/name@{commit}") == card
        for name in ("org/half", "org/none"):
            assert "connection" in why_not(name)
