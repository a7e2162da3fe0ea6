"""Models on the hub: what is fetched of them and what is not; and published configurations that are described."""

import json
import re
from pathlib import Path
from typing import Any

import fakes
import pytest
import torch
import zoo
from fakes import configure
from hub import Hub, asked_here, files_in, serving
from safetensors.torch import load_file
from transformers import CONFIG_MAPPING

from cahp import hub as hub_client, models
from cahp.models.cards import REFUSED
from cahp.models.identity import describe_config
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
def test_config_alone_refuses(hub: Hub, folder: Path, entries: dict[str, Any], named: str, fetched: set[str]) -> None:
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


def sizes(vocab: int, hidden: int, inner: int, layers: int, heads: int, **more: Any) -> dict[str, Any]:
    """A configuration with the names of sizes that most models have."""
    named = {"vocab_size": vocab, "hidden_size": hidden, "intermediate_size": inner}
    return {**named, "num_hidden_layers": layers, "num_attention_heads": heads, **more}


def rotates(kind: str) -> bool:
    # ESM's own class takes no whole number as the base.
    return kind != "esm" and "rope_parameters" in CONFIG_MAPPING[kind]().to_dict()


#: One model a line: its type, millions of weights, ``heads`` (layers, units, query heads of a unit), and the entries of
#: its published configuration that describe the network.
LINES = (Path(__file__).parent / "published_language.jsonl").read_text(encoding="utf-8").splitlines()
DESCRIBED: list[dict[str, Any]] = [json.loads(line) for line in LINES]
#: Model type, a part of the reason, and entries of a published configuration.
UNSUPPORTED: list[tuple[str, str, dict[str, Any]]] = [
    ("falcon", "special projections", {"hidden_size": 4544, "num_attention_heads": 71, "multi_query": True}),
    ("codegen", "by the four devices", {"n_embd": 1024, "n_layer": 20, "n_head": 16, "rotary_dim": 32}),
    ("diffllama", "no head works alone", {"hidden_size": 1024, "num_hidden_layers": 16, "num_attention_heads": 16}),
    ("jetmoe", "among experts", {"hidden_size": 2048, "num_hidden_layers": 24, "num_key_value_heads": 16}),
    ("deepseek_v3", "quantized weights", {"hidden_size": 7168, "quantization_config": {"quant_method": "fp8"}}),
    ("mamba", "no attention heads", {"hidden_size": 768, "num_hidden_layers": 24, "state_size": 16}),
    ("rwkv", "no attention heads", {"hidden_size": 768, "num_hidden_layers": 12, "attention_hidden_size": 768}),
    ("longcat_flash", "layers.*.self_attn.0, layers.*.self_attn.1", {"hidden_size": 6144, "num_layers": 28}),
    ("internlm2", "whose own code is not run", {"hidden_size": 4096, "num_hidden_layers": 32}),
]
#: Classifiers: model type, millions of weights, and what a published configuration says that its defaults do not.
PUBLISHED: list[tuple[str, int, dict[str, Any]]] = [
    ("albert", 223, sizes(30_000, 4096, 16_384, 12, 64, embedding_size=128)),
    ("bart", 406, {"vocab_size": 50_265, "d_model": 1024, "encoder_layers": 12, "decoder_layers": 12}),
    ("deberta-v2", 1_570, sizes(128_100, 1536, 6144, 48, 24, position_buckets=256, type_vocab_size=0)),
    ("esm", 15_000, sizes(33, 5120, 20_480, 48, 40, position_embedding_type="rotary", max_position_embeddings=1026)),
    ("llama", 70_554, sizes(128_256, 8192, 28_672, 80, 64, num_key_value_heads=8, rope_theta=500_000)),
    ("minicpm3", 4_070, sizes(73_448, 2560, 6400, 62, 40, q_lora_rank=768, kv_lora_rank=256)),
    ("t5", 11_307, {"vocab_size": 32_128, "d_model": 1024, "d_kv": 128, "d_ff": 65_536, "num_heads": 128}),
    ("xlm", 570, {"n_words": 200_000, "emb_dim": 1280, "n_layers": 16, "n_heads": 16, "n_langs": 17}),
    ("xlm-roberta-xl", 10_700, sizes(250_880, 4096, 16_384, 48, 32, max_position_embeddings=514)),
]


def write(folder: Path, head: str, entries: dict[str, Any]) -> None:
    """The ``config.json`` of a model with a ``head``."""
    (folder / "config.json").write_text(json.dumps({**entries, "architectures": [f"XFor{head}"]}, default=str))


@pytest.mark.parametrize(("kind", "millions", "values"), PUBLISHED, ids=[kind for kind, *_ in PUBLISHED])
def test_a_published_classifier_is_described(tmp_path: Path, kind: str, millions: int, values: dict[str, Any]) -> None:
    write(tmp_path, "SequenceClassification", {**CONFIG_MAPPING[kind](**values).to_dict(), **values})
    described = describe_config("model", tmp_path, weight_bytes=2_000_000 * millions)
    assert described.heads * described.group > 1


@pytest.mark.parametrize("kind", [kind for kind in zoo.TYPES if kind not in REFUSED and rotates(kind)])
def test_a_small_model_may_have_a_large_rope_base_and_window(tmp_path: Path, kind: str) -> None:
    large = {"rope_theta": 10_000_000, "sliding_window": 10_000_000}
    write(tmp_path, "SequenceClassification", {**zoo.configuration(kind).to_dict(), **large})
    assert describe_config("model", tmp_path, weight_bytes=100_000).family == kind


@pytest.mark.parametrize("row", DESCRIBED, ids=[f"{row['type']}-{row['millions']}" for row in DESCRIBED])
def test_a_published_language_model_is_described(tmp_path: Path, row: dict[str, Any]) -> None:
    write(tmp_path, "CausalLM", {"model_type": row["type"], **row["config"]})
    card = describe_config("model", tmp_path, weight_bytes=2_000_000 * row["millions"])
    assert [card.layers, card.heads, card.group] == row["heads"]
    assert card.language == "causal"


@pytest.mark.parametrize(("kind", "reason", "values"), UNSUPPORTED, ids=[kind for kind, *_ in UNSUPPORTED])
def test_what_is_refused_has_a_true_reason(tmp_path: Path, kind: str, reason: str, values: dict[str, Any]) -> None:
    write(tmp_path, "CausalLM", {"model_type": kind, **values})
    with pytest.raises(ModelError, match=re.escape(reason)):
        describe_config("model", tmp_path, weight_bytes=1_000_000_000_000)


def test_a_model_of_pictures_and_text_is_refused_as_such(tmp_path: Path) -> None:
    parts = {"text_config": {"model_type": "gemma3_text", "num_hidden_layers": 34}, "vision_config": {}}
    write(tmp_path, "ConditionalGeneration", {"model_type": "gemma3", **parts})
    with pytest.raises(ModelError, match="joins a language model with parts for other inputs"):
        describe_config("model", tmp_path, weight_bytes=8_600_000_000)
