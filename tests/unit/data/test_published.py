"""Data on the hub, read with the real libraries from a small server."""

from __future__ import annotations

import io
import json
from pathlib import Path

import fakes
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub import Hub, asked_here, serving

from cahp import data
from cahp import hub as hub_client
from cahp.values import DataError

NAMES = ("entailment", "neutral", "contradiction")


def grades(split: str, count: int) -> bytes:
    rows = [{"text": f"{split} number {row}", "label": row % 5, "label_text": "fine"} for row in range(count)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def pairs(split: str, count: int) -> bytes:
    features = {"label": {"names": list(NAMES), "_type": "ClassLabel"}}
    features |= {name: {"dtype": "string", "_type": "Value"} for name in ("premise", "hypothesis")}
    table = pa.table(
        {
            "premise": [f"{split} {row}" for row in range(count)],
            "hypothesis": ["so it is"] * count,
            "label": pa.array([row % 3 for row in range(count)], pa.int64()),
        }
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def why_not(name: str) -> str:
    return fakes.reason(DataError, data.load, name)


def test_a_preset_of_lines_is_read_and_nothing_is_drawn(hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    files = {f"{split}.jsonl": grades(split, size) for split, size in (("train", 20), ("dev", 10), ("test", 15))}
    hub.add("datasets/SetFit/sst5", {**files, "README.md": b"# SST-5\n"})
    found = data.load("sst5")
    assert {split: len(texts) for split, texts in found.splits.items()} == {"train": 20, "validation": 10, "test": 15}
    assert found.classes == ("0", "1", "2", "3", "4")
    assert capfd.readouterr() == ("", "")
    hub.requests.clear()
    data.load("sst5")
    assert hub.fetched() == {}


def test_a_preset_of_pairs_is_read_by_its_card(hub: Hub) -> None:
    splits = ("train", "validation_matched", "validation_mismatched")
    listed = "".join(f"  - split: {split}\n    path: data/{split}-*\n" for split in splits)
    card = f"---\nconfigs:\n- config_name: default\n  data_files:\n{listed}---\n"
    files = {f"data/{split}-00000-of-00001.parquet": pairs(split, 9) for split in splits}
    hub.add("datasets/nyu-mll/multi_nli", {**files, "README.md": card.encode(), "old/train.csv": b"a,b\n"})
    found = data.load("mnli")
    assert set(found.splits) == {"train", "validation", "validation_mismatched"}
    assert found.splits["validation"].inputs[0] == ("validation_matched 0", "so it is")
    assert found.classes == tuple(sorted(NAMES))
    assert "train.csv" not in str(hub.fetched())


def test_a_revision_of_data_is_honoured(hub: Hub) -> None:
    hub.add("datasets/org/name", {"train.jsonl": grades("old", 10)}, tag="v1")
    hub.add("datasets/org/name", {"train.jsonl": grades("new", 10)})
    texts = [text for split in data.load("hub:org/name@v1").splits.values() for text in split.first]
    assert all(text.startswith("old") for text in texts)
    assert "'v9'" in why_not("hub:org/name@v9")


def test_large_data_are_fetched_with_consent_alone(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("datasets/org/name", {"train.jsonl": grades("train", 40), "more.bin": b"\0" * 10_000})
    monkeypatch.setattr(hub_client, "FREE", 1000)
    assert "hub:org/name takes 2 kB" in why_not("hub:org/name")
    assert "train.jsonl" not in hub.fetched()
    with hub_client.consent_from(lambda *_: True):
        assert len(data.load("hub:org/name").splits["train"]) > 20


def test_gated_and_missing_data_say_what_helps(hub: Hub) -> None:
    hub.add("datasets/org/name", {"train.jsonl": grades("train", 10)}, gated=True, token="hf_right")
    assert f"accept its terms at {hub.address}/datasets/org/name" in why_not("hub:org/name")
    assert "private" in why_not("hub:org/none")


def test_without_a_connection_what_was_fetched_is_used(tmp_path: Path) -> None:
    with serving() as hub, asked_here(hub, tmp_path / "hf"):
        hub.add("datasets/org/name", {"train.jsonl": grades("train", 20)})
        before = data.load("hub:org/name")
    with asked_here(hub, tmp_path / "hf"):
        again = data.load("hub:org/name")
        assert again.splits["train"].sha256 == before.splits["train"].sha256
        assert "the hub cannot be reached" in again.notices[0]
        assert "connection" in why_not("hub:org/none")


def test_without_a_connection_no_other_commit_than_the_one_named_is_used(tmp_path: Path) -> None:
    with serving() as hub, asked_here(hub, tmp_path / "hf"):
        old = hub.add("datasets/org/name", {"train.jsonl": grades("old", 20)}, tag="v1")
        hub.add("datasets/org/name", {"train.jsonl": grades("new", 20)})
        for name in (f"hub:org/name@{old}", "hub:org/name"):
            data.load(name)
    with asked_here(hub, tmp_path / "hf"):
        assert data.load("hub:org/name").splits["train"].first[0].startswith("new")
        assert old in why_not(f"hub:org/name@{old}")
