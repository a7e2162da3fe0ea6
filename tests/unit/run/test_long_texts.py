"""How much of a text a model reads, and that a run says which texts were cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fakes
import pytest

import cahp
from cahp import models
from cahp.models.head_model import HeadModel
from cahp.run.document import RunDocument
from cahp.run.settings import Settings
from cahp.run.texts import load_data
from cahp.store import Store


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
