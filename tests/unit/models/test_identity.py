"""What a model is, before and while it is read: every way in which a folder or a hub id can be of no use."""

import json
import re
import shutil
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakes
import pytest
import torch
from fakes import configure
from opening import refusal
from safetensors.torch import load_file, save_file

from cahp import models
from cahp.models import loading
from cahp.models.identity import identify
from cahp.models.matching import sketch_network
from cahp.values import DataError, ModelError, OptionError

pytestmark = pytest.mark.usefixtures("one_thread")

#: A module that betrays that it was imported.
TRAP = "raise SystemExit('remote code was run')\n"
#: Where a configuration names it.
CODE = {"AutoModelForSequenceClassification": "modeling_x.X"}
PICKLE = b"\x80\x04cposix\nsystem\n"
#: What is done to a folder.
Change = Callable[[Path], object]


def why_not(name: str | Path) -> str:
    return fakes.reason(ModelError, identify, str(name))


def why_not_read(folder: Path) -> str:
    return fakes.reason(ModelError, models.load, str(folder), device="cpu")


def set_config(**changes: Any) -> Change:
    return lambda folder: configure(folder, **changes)


def remove_file(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def write_file(name: str, content: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(content)


def replace_weights(name: str, content: bytes) -> Change:
    """Another file instead of the weights."""

    def replace(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(content)

    return replace


def write_index(weights: object) -> Change:
    return replace_weights("model.safetensors.index.json", json.dumps({"weight_map": weights}).encode())


def write_tensors(header: object, data: bytes = bytes(4)) -> Change:
    text = json.dumps(header).encode()
    return write_file("model.safetensors", struct.pack("<Q", len(text)) + text + data)


def write_tensor(shape: object, offsets: object) -> Change:
    return write_tensors({"a": {"dtype": "F32", "shape": shape, "data_offsets": offsets}})


def damage_weights(damage: Callable[[bytes], bytes]) -> Change:
    def write(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(damage(path.read_bytes()))

    return write


def reweigh(change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    def write(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return write


def drop_head(weights: dict[str, torch.Tensor]) -> None:
    for name in [name for name in weights if "classifier" in name]:
        del weights[name]


def add_stranger(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["stranger"] = 9_999
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def add_lora(folder: Path) -> None:
    save_file({"a": torch.zeros(3)}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4}))


CHANGED_ANSWERS: dict[str, Change] = {
    "configuration": lambda folder: configure(folder, more=1),
    "tokenizer": lambda folder: configure(folder, "tokenizer.json", more=1),
    "weights": reweigh(lambda weights: weights["classifier.bias"].add_(1)),
    "tokenizer's settings": write_file("tokenizer_config.json", b'{"do_lower_case": true}'),
    "special tokens": write_file("special_tokens_map.json", b'{"do_lower_case": true}'),
    "added tokens": write_file("added_tokens.json", b'{"do_lower_case": true}'),
}


@pytest.mark.parametrize("change", CHANGED_ANSWERS.values(), ids=CHANGED_ANSWERS)
def test_the_digest_follows_all_that_changes_an_answer(folder: Path, change: Change) -> None:
    before = identify(str(folder)).sha256
    change(folder)
    assert identify(str(folder)).sha256 != before


@pytest.mark.parametrize(
    "name",
    [*("", " ", "nothing", "a/b/c", "./no", "/no", "~nobody-at-all/x", "x" * 5000, "a\0b", "minilm-", "none.gguf")],
)
def test_a_name_that_is_no_model_s_is_refused_with_what_would_be_one(name: str) -> None:
    assert "folder" in why_not(name)


def test_an_encoder_that_is_missing_or_not_the_expected_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        fakes.other_package(patch, "minilm-bbc", files={"model/model.safetensors": "0" * 64})
        assert "--force-reinstall" in why_not("minilm-bbc")
    fakes.other_package(monkeypatch, "minilm-bbc", name="no_such_package")
    assert "pip install" in why_not("minilm-bbc")


def test_a_folder_named_as_a_built_in_is_not_it(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folder, tmp_path / "own" / "minilm-bbc")
    for place, name in (("own", "./minilm-bbc"), ("own/minilm-bbc", ".")):
        monkeypatch.chdir(tmp_path / place)
        card = identify(name)
        assert (card.id, models.name_of(card)) == ("minilm-bbc", str(tmp_path / "own" / "minilm-bbc"))


NOT_WHOLE = "not a whole safetensors file"
ANY_CODE = "loading a pickle can run any code"
NO_CLASSIFIER = "no text classifier"
#: A tensor of one number.
PLACE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}

#: What is done to a sound folder, and a part of the refusal.
REFUSED: dict[str, tuple[Change, str]] = {
    "no configuration": (remove_file("config.json"), "config.json"),
    "half a configuration": (write_file("config.json", b"{"), "config.json"),
    "a list as configuration": (write_file("config.json", b"[]"), "config.json"),
    "a configuration of other bytes": (write_file("config.json", b"\xff\xfe"), "config.json"),
    "no tokenizer": (remove_file("tokenizer.json"), "tokenizer.save_pretrained"),
    "no weights": (remove_file("model.safetensors"), "save_pretrained"),
    "an ONNX model": (lambda folder: (folder / "model.safetensors").rename(folder / "model.onnx"), "original model"),
    "pickled weights": (replace_weights("pytorch_model.bin", PICKLE), ANY_CODE),
    "a checkpoint": (replace_weights("model.ckpt", PICKLE), ANY_CODE),
    "weights cut short": (damage_weights(lambda whole: whole[:-100]), NOT_WHOLE),
    "longer weights than they say": (damage_weights(lambda whole: whole + b"\0"), NOT_WHOLE),
    "empty weights": (write_file("model.safetensors", b""), NOT_WHOLE),
    "weights that are none": (write_file("model.safetensors", b"garbage!" * 50), NOT_WHOLE),
    "weights that are a list": (write_tensors([], b""), NOT_WHOLE),
    "a tensor of another size": (write_tensor([1_000_000_000], [0, 4]), NOT_WHOLE),
    "a tensor behind the end": (write_tensor([1], [0, 8]), NOT_WHOLE),
    "a negative shape": (write_tensor([-1], [0, 4]), NOT_WHOLE),
    "a shape of floats": (write_tensor([1.0], [0, 4]), NOT_WHOLE),
    "a tensor before the start": (write_tensor([2], [-4, 4]), NOT_WHOLE),
    "an endless empty tensor": (write_tensor([10**200, 0], [0, 0]), NOT_WHOLE),
    "a shape that is a number": (write_tensor(5, [0, 4]), NOT_WHOLE),
    "half a place": (write_tensor([1], [0]), NOT_WHOLE),
    "a place that is text": (write_tensor([1], "04"), NOT_WHOLE),
    "two tensors in the same bytes": (write_tensors(dict.fromkeys("ab", PLACE)), NOT_WHOLE),
    "an index that is a list": (write_index([]), "save"),
    "an empty index": (write_index({}), "save"),
    "an index of another folder": (write_index({"a": "../sound.safetensors"}), "save"),
    "an index of numbers": (write_index({"a": 5}), "save"),
    "an index of missing files": (write_index({"a": "model-2.safetensors"}), "save"),
    "missing files beside an ONNX model": (
        lambda folder: [write_file("model.onnx", b"")(folder), write_index({"a": "model-2.safetensors"})(folder)],
        "lacks its weights (model-2",
    ),
    "Fourier layers": (set_config(model_type="fnet"), "Fourier"),
    "a model of pictures": (set_config(model_type="vit"), NO_CLASSIFIER),
    "a model without attention": (set_config(model_type="mamba"), NO_CLASSIFIER),
    "no model type": (set_config(model_type=None), NO_CLASSIFIER),
    "several model types": (set_config(model_type=["bert"]), NO_CLASSIFIER),
    "an unknown model type": (set_config(model_type="x", auto_map=CODE), NO_CLASSIFIER),
    "a decoder": (set_config(is_decoder=True), "decoder"),
    "quantized": (set_config(quantization_config={"quant_method": "gptq"}), "quantized"),
    "layers in words": (set_config(num_hidden_layers="three"), "num_hidden_layers"),
    "half a layer": (set_config(num_hidden_layers=2.5), "num_hidden_layers"),
    "no heads": (set_config(num_attention_heads=0), "num_attention_heads"),
    "a negative size": (set_config(hidden_size=-32), "hidden_size"),
    "a size that heads do not share": (set_config(hidden_size=33), "no multiple of its"),
    "classes with a gap": (set_config(id2label={"0": "bad", "2": "good"}), "id2label"),
    "classes in a list": (set_config(id2label=["bad", "good"]), "id2label"),
    "two classes of one name": (set_config(id2label={"0": "same", "1": "same"}), "id2label"),
    "one class": (set_config(id2label={"0": "score"}), "does not give each text one class"),
    "no class": (set_config(id2label={}), "does not give each text one class"),
    "regression": (set_config(problem_type="regression"), "problem_type regression"),
    "several labels": (set_config(problem_type="multi_label_classification"), "problem_type multi_label"),
    "an adapter beside the weights": (add_lora, "merge it"),
}


@pytest.mark.parametrize(("change", "named"), REFUSED.values(), ids=REFUSED)
def test_a_folder_of_no_use_is_refused_before_it_is_read(folder: Path, change: Change, named: str) -> None:
    (folder / "modeling_x.py").write_text(TRAP)
    change(folder)
    assert named in why_not(folder)


#: What is done to a sound folder that can be described but not read, and a part of the refusal.
UNREADABLE: dict[str, tuple[Change, str]] = {
    "more layers": (set_config(num_hidden_layers=5), "are missing"),
    "wider layers": (set_config(intermediate_size=64), "other shapes"),
    "fewer words": (set_config(vocab_size=10), "other shapes"),
    "more classes": (set_config(id2label={"0": "a", "1": "b", "2": "c"}), "classifier.bias"),
    "an unknown function": (set_config(hidden_act="no-such-function"), "cannot be read"),
    "an unknown type of numbers": (set_config(dtype="no-such-type"), "cannot be read"),
    "no head": (reweigh(drop_head), "classifier.bias, classifier.weight of "),
    "no number": (reweigh(lambda weights: weights["classifier.bias"].fill_(float("nan"))), "classifier.bias"),
    "the tokenizer of another model": (add_stranger, "9999"),
    "no padding": (lambda folder: configure(folder, "tokenizer_config.json", pad_token=None), "padding"),
}


@pytest.mark.parametrize(("change", "named"), UNREADABLE.values(), ids=UNREADABLE)
def test_parts_that_do_not_fit_together_are_refused(folder: Path, change: Change, named: str) -> None:
    change(folder)
    assert named in why_not_read(folder)


@pytest.mark.parametrize("architectures", [None, [], ["BertModel"], 5, ["BertForMaskedLM"]])
def test_a_model_without_a_head_has_no_classes(folder: Path, architectures: object) -> None:
    configure(folder, architectures=architectures)
    assert identify(str(folder)).labels == ()
    assert "cahp fit" in why_not_read(folder)


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["{", "[]", '{"added_tokens": 3}'])
def test_a_damaged_tokenizer_is_refused_or_does_no_harm(folder: Path, file: str, content: str) -> None:
    before = models.load(str(folder), device="cpu").tokenize(["the film was good", "a dull plot"])
    (folder / file).write_text(content)
    try:
        after = models.load(str(folder), device="cpu")
    except ModelError as error:
        assert "tokenizer" in str(error)  # noqa: PT017 - either outcome is right
    else:
        assert after.tokenize(["the film was good", "a dull plot"]) == before


def test_neither_pickles_nor_code_beside_a_known_architecture_are_touched(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(PICKLE)
    (folder / "modeling_x.py").write_text(TRAP)
    configure(folder, auto_map={"AutoConfig": "modeling_x.C", **CODE})
    configure(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["modeling_x.T", "modeling_x.T"]})
    assert models.load(str(folder), device="cpu").network.__class__.__module__.startswith("transformers.")
    # A text without any token is named.
    configure(folder, "tokenizer.json", post_processor=None)
    model = loading.load_model(identify(str(folder)), device_name="cpu")
    with pytest.raises(DataError, match="' '"):
        model.tokenize(["good film", " "])


@pytest.mark.parametrize("name", ["cuda", "mps", "tpu"])
def test_a_device_that_is_not_here_is_refused(name: str, sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(OptionError, match=name):
        models.load(str(sound), device=name)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("bert", {"hidden_size": 65_536}),
        ("bert", {"hidden_size": 10**300}),
        ("bert", {"num_hidden_layers": 10**9}),
        ("bert", {"num_hidden_layers": 900}),
        ("bert", {"num_attention_heads": 10**9, "hidden_size": 10**9}),
        ("bert", {"vocab_size": 100_000_000}),
        ("bert", {"intermediate_size": 100_000_000}),
        ("bert", {"max_position_embeddings": 100_000_000}),
        ("bert", {"type_vocab_size": 10**9}),
        ("bert", {"id2label": None, "num_labels": 10**9}),
        ("bert", {"chunk_layers": 10**9}),
        ("gpt2", {"n_positions": 100_000_000}),
        ("gpt2", {"n_inner": 100_000_000}),
        ("gpt2", {"vocab_size": 100_000_000}),
        # Layers of a decoder, which are not loaded.
        ("bart", {"decoder_layers": 10**7}),
    ],
)
def test_a_configuration_is_held_against_weights_first(family: str, changes: dict[str, Any], tmp_path: Path) -> None:
    folder = fakes.save_model(tmp_path, family)
    configure(folder, **changes)
    assert refusal("model", folder)


@pytest.mark.parametrize("length", [1000, 300_000, 40_000_000])
def test_a_header_nested_deep_or_without_end_is_refused(folder: Path, length: int) -> None:
    header = b'{"a":' + b"[" * length + b"]" * length + b"}"
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert "not a whole safetensors file" in refusal("identify", folder)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("depth", [1000, 100_000])
def test_json_nested_deep_is_refused(folder: Path, file: str, depth: int) -> None:
    (folder / file).write_text('{"added_tokens": ' + "[" * depth + "]" * depth + "}")
    sentence = refusal("model", folder)
    assert sentence or file == "special_tokens_map.json"


def test_a_configuration_without_end_is_not_read(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("/dev/zero")
    assert "no readable JSON object of at most" in refusal("identify", folder)


def test_each_file_of_the_built_in_encoder_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(identify("minilm").folder)
    package = tmp_path / "moved_minilm"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "model").mkdir()
    for file in folder.iterdir():
        (package / "model" / file.name).symlink_to(file)
    monkeypatch.syspath_prepend(tmp_path)
    fakes.other_package(monkeypatch, "minilm", name="moved_minilm")
    assert identify("minilm").layers == 6
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        (package / "model" / name).unlink()
        (package / "model" / name).write_bytes((folder / name).read_bytes() + b" ")
        with pytest.raises(ModelError, match=rf"{re.escape(name)} .* not the one that was released"):
            identify("minilm")
        (package / "model" / name).unlink()
        (package / "model" / name).symlink_to(folder / name)
    (package / "model" / "added_tokens.json").write_text("{}")
    with pytest.raises(ModelError, match=r"added_tokens\.json"):
        identify("minilm")


def test_a_sketch_of_a_bfloat16_model_leaves_threads_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fakes.save_language_model(tmp_path / "model", family="llama")
    configure(folder, dtype="bfloat16")
    types: list[torch.dtype] = []
    change = torch.set_default_dtype

    def note(dtype: torch.dtype) -> None:
        types.append(dtype)
        change(dtype)

    monkeypatch.setattr(torch, "set_default_dtype", note)
    before = torch.get_rng_state()
    sketch_network("model", str(folder), (), "causal", weight_bytes=1 << 20)
    # PyTorch has one default for all threads, and one generator.
    assert set(types) <= {torch.float32}
    assert torch.equal(torch.get_rng_state(), before)


def test_a_sketch_counts_the_parts_of_its_own_thread(tmp_path: Path) -> None:
    folder = fakes.save_language_model(tmp_path / "model", family="llama")
    configure(folder, num_hidden_layers=2_000)
    refused: list[str] = []

    def sketch() -> None:
        with pytest.raises(ModelError, match="far more modules") as error:
            sketch_network("model", str(folder), (), "causal", weight_bytes=0)
        refused.append(str(error.value))

    thread = threading.Thread(target=sketch)
    thread.start()
    # More modules than a sketch may have.
    modules = [torch.nn.Linear(1, 1) for _ in range(6_000)]
    thread.join()
    assert len(refused) == 1
    assert len(modules) == 6_000
