"""How much of a text a model reads, and that a run says which texts were cut."""

from pathlib import Path
from typing import Any

import fakes
import pytest

import cahp
from cahp import models
from cahp.run.document import RunDocument
from cahp.run.texts import load_data
from cahp.store import Store


def wide(folder: Path, reads: int, **more: Any) -> Path:
    """A model that reads so many tokens."""
    fakes.save_model(folder, max_position_embeddings=reads, **more)
    words = fakes.tokenizer()
    words.model_max_length = reads
    words.save_pretrained(folder)
    return folder


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
def test_512_tokens_are_read_unless_told(tmp_path: Path, positions: int, max_length: int | None, read: int) -> None:
    model = cahp.load(str(wide(tmp_path, positions)), device="cpu", max_length=max_length)
    (entry,) = model.tokenize(["good film " * 2000])
    assert len(entry["input_ids"]) == read


def test_a_run_counts_the_texts_that_were_cut(tmp_path: Path) -> None:
    # It reads 6 words of each text, and two tokens that frame them.
    settings = fakes.quick_task(tmp_path, budget="5", max_length=8)
    run = cahp.prune(settings, store=Store(tmp_path / "store")).document
    splits = load_data(settings, models.identify(settings.model)).splits
    for part in (run.data.select, run.data.eval):
        texts = splits[part.split].first
        longer = sum(len(text.split()) > 6 for text in texts)
        assert 0 < longer < len(texts)
        assert (part.cut, part.examples, part.max_length) == (longer, len(texts), 8)
    assert RunDocument.from_json(run.to_json()).data == run.data
