"""How much of a text a model reads, and that a run says which texts were cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import pytest

import cahp
from cahp import models
from cahp.api.preflight import preflight
from cahp.exports import report
from cahp.models.head_model import HeadModel
from cahp.run.document import RunDocument
from cahp.run.settings import Settings
from cahp.run.texts import load_data
from cahp.store import Store
from cahp.terminal.printing import run_lines


def wide(folder: Path, reads: int, **more: Any) -> Path:
    """A model that reads so many tokens."""
    fakes.save_model(folder, max_position_embeddings=reads, **more)
    words = fakes.tokenizer()
    words.model_max_length = reads
    words.save_pretrained(folder)
    return folder


def length(model: HeadModel, text: str) -> int:
    (entry,) = model.tokenize([text])
    return len(entry["input_ids"])


@pytest.mark.parametrize(
    ("positions", "max_length", "read"),
    [
        (300, None, 300),
        (1000, None, 512),
        (1000, 128, 128),
        (1000, 600, 600),
        # Never more than the model has positions for.
        (1000, 5000, 1000),
    ],
)
def test_a_model_reads_512_tokens_or_as_many_as_are_asked_for_within_its_positions(
    tmp_path: Path, positions: int, max_length: int | None, read: int
) -> None:
    model = cahp.load(str(wide(tmp_path, positions)), device="cpu", max_length=max_length)
    assert length(model, "good film " * 2000) == read


# What a run says --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A run that reads 6 words of each text, and two tokens that frame them."""
    return fakes.quick_task(tmp_path_factory.mktemp("long"), budget="5", max_length=8)


@pytest.fixture(scope="module")
def run(settings: Settings, store: Store) -> RunDocument:
    return cahp.prune(settings, store=store).document


@pytest.fixture(scope="module")
def longer(settings: Settings) -> dict[str, tuple[int, int]]:
    """By split, how many texts have more than 6 words, and how many there are: two tokens frame each."""
    splits = load_data(settings, models.identify(settings.model)).splits
    return {name: (sum(len(text.split()) > 6 for text in one.first), len(one)) for name, one in splits.items()}


def test_a_run_counts_the_texts_that_were_cut(run: RunDocument, longer: dict[str, tuple[int, int]]) -> None:
    assert all(0 < cut < count for cut, count in longer.values())
    for part in (run.data.select, run.data.eval):
        assert (part.cut, part.examples, part.max_length) == (*longer[part.split], 8)
    assert RunDocument.from_json(run.to_json()).data == run.data


def test_terminal_and_report_say_so(run: RunDocument, settings: Settings, longer: dict[str, tuple[int, int]]) -> None:
    page = report.page(run, origin=report.Origin(machine="m", date="d", recipe="cahp prune"))
    said = "\n".join(run_lines(run))
    for split, (cut, count) in longer.items():
        if split in (run.data.select.split, run.data.eval.split):
            sentence = f"{split}: {cut} of {count} texts are longer than 8 tokens and were cut"
            assert sentence in page
            assert f"note: {sentence} (--max-length)" in said


def test_preflight_counts_the_longest_texts(tmp_path: Path) -> None:
    card = models.preview(str(wide(tmp_path, 1000)))
    short, default = (preflight(replace(card, max_length=length)) for length in (64, None))
    assert (short["max_length"], default["max_length"]) == (64, 512)
    assert default["memory_bytes"] > short["memory_bytes"]
