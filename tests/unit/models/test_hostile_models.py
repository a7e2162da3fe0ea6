"""Folders that claim to be models and would fill the machine, or answer otherwise under the same digest."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import fakes
import pytest
from opening import refusal

from cahp import models
from cahp.models.identity import identify
from cahp.values import ModelError

pytestmark = pytest.mark.usefixtures("one_thread")


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
def test_what_a_configuration_asks_for_is_held_against_the_weights_first(
    family: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    folder = fakes.save_model(tmp_path, family)
    fakes.configure(folder, **changes)
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


def test_the_bundled_run_is_still_that_of_the_built_in_model() -> None:
    run = json.loads((models.assets() / "runs" / "minilm-bbc" / "run.json").read_text())
    assert identify("minilm-bbc").identity == run["model"]["sha256"]
