"""Folders that claim to be models and would fill the machine, or answer otherwise under the same digest."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import fakes
import pytest
import torch
from opening import refusal

from cahp import models
from cahp.models import identity
from cahp.models.identity import identify
from cahp.values import ModelError

pytestmark = pytest.mark.usefixtures("one_thread")


def configure(folder: Path, **changes: Any) -> None:
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**said, **changes}))


def safetensors(path: Path, header: object, data: bytes) -> None:
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 65_536},
        {"hidden_size": 10**300},
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": 900},
        {"num_attention_heads": 10**9, "hidden_size": 10**9},
        {"vocab_size": 100_000_000},
        {"intermediate_size": 100_000_000},
        {"max_position_embeddings": 100_000_000},
        {"type_vocab_size": 10**9},
        {"id2label": None, "num_labels": 10**9},
        {"chunk_layers": 10**9},
    ],
)
def test_what_a_configuration_asks_for_is_held_against_the_weights_first(folder: Path, changes: dict[str, Any]) -> None:
    configure(folder, **changes)
    assert refusal("model", folder)


@pytest.mark.parametrize("entry", ["n_positions", "n_inner", "vocab_size"])
def test_tables_of_positions_and_masks_count_too(tmp_path: Path, entry: str) -> None:
    folder = fakes.save_model(tmp_path / "gpt2", "gpt2")
    configure(folder, **{entry: 100_000_000})
    assert refusal("model", folder)


def test_a_decoder_that_nobody_sees_has_a_largest_number_of_layers(tmp_path: Path) -> None:
    folder = fakes.save_model(tmp_path / "bart", "bart")
    configure(folder, decoder_layers=10**7)
    assert "decoder_layers" in refusal("model", folder)


@pytest.mark.parametrize(
    ("shape", "offsets"),
    [
        ([1_000_000_000], [0, 4]),
        ([1], [0, 8]),
        ([-1], [0, 4]),
        ([1.0], [0, 4]),
        ([2], [-4, 4]),
        ([10**200, 0], [0, 0]),
        (5, [0, 4]),
        ([1], [0]),
        ([1], "04"),
    ],
)
def test_a_header_that_says_another_size_than_the_file_has_is_refused(
    folder: Path, shape: object, offsets: object
) -> None:
    entry = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
    safetensors(folder / "model.safetensors", {"a": entry}, bytes(4))
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        identify(str(folder))


def test_two_tensors_cannot_share_their_bytes(folder: Path) -> None:
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    safetensors(folder / "model.safetensors", {"a": entry, "b": entry}, bytes(4))
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        identify(str(folder))


@pytest.mark.parametrize("length", [1000, 300_000, 40_000_000])
def test_a_header_nested_deep_or_without_end_is_refused(folder: Path, length: int) -> None:
    safetensors(folder / "model.safetensors", b'{"a":' + b"[" * length + b"]" * length + b"}", b"")
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
    assert "too large" in refusal("identify", folder)


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "adapter_model.safetensors"]
)
def test_the_digest_follows_all_that_changes_an_answer(folder: Path, name: str) -> None:
    from safetensors.torch import save_file

    lora(folder)
    before = identify(str(folder)).sha256
    if name.endswith("json"):
        (folder / name).write_text('{"do_lower_case": true}')
    else:
        save_file({"a": torch.ones(3)}, folder / name)
    assert identify(str(folder)).sha256 != before


def lora(folder: Path, **changes: Any) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(3)}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4, **changes}))


def test_the_digest_follows_an_adapter_s_settings(folder: Path) -> None:
    without = identify(str(folder)).sha256
    lora(folder)
    first = identify(str(folder)).sha256
    lora(folder, lora_alpha=5)
    assert len({without, first, identify(str(folder)).sha256}) == 3


@pytest.mark.parametrize(
    "changes",
    [{"r": 10**8}, {"r": "8"}, {"r": None}, {"rank_pattern": {"query": 10**8}}, {"peft_type": "PREFIX_TUNING"}],
)
def test_an_adapter_that_may_become_anything_is_refused(folder: Path, changes: dict[str, Any]) -> None:
    lora(folder, **changes)
    with pytest.raises(ModelError, match="merge it"):
        identify(str(folder))


def test_a_pickled_adapter_is_refused(folder: Path) -> None:
    lora(folder)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ModelError, match="merge it"):
        identify(str(folder))


def test_the_built_in_encoder_s_other_files_are_known_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(identify("minilm").folder)
    package = tmp_path / "moved_minilm"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "model").mkdir()
    for file in folder.iterdir():
        (package / "model" / file.name).symlink_to(file)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(identity, "ENCODER_PACKAGE", "moved_minilm")
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


def test_the_bundled_run_is_still_that_of_the_built_in_model() -> None:
    run = json.loads((models.assets() / "runs" / "minilm-bbc" / "run.json").read_text())
    assert identify("minilm-bbc").identity == run["model"]["sha256"]
