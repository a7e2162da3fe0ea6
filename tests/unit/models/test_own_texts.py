"""A text of a person as a model reads it: as the texts on which the model is evaluated."""

from __future__ import annotations

from pathlib import Path

import fakes
import numpy as np
import pytest

from cahp import models
from cahp.features.attribution.measuring import Baseline, TextQuestion
from cahp.models.tokenizing import start_id, tokenize_own
from cahp.stages.similarity import attend
from cahp.values import DataError

TEXT = "the film was very good"


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_language_model_reads_it_after_the_token_before_a_first_one_and_may_go_on(
    family: str, tmp_path: Path
) -> None:
    model = models.load(str(fakes.save_language_model(tmp_path / "model", "causal", family)), device="cpu")
    ids = model.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    expected = [start_id(model.tokenizer), *ids]
    entry, whole = tokenize_own(model, TEXT)
    assert entry == {"input_ids": expected, "attention_mask": [1] * len(expected)}
    assert whole == len(expected)
    # All that reads a text of a person reads the same tokens.
    nothing = Baseline(np.zeros((model.layers, 1), dtype=np.float16), 1, 1, "nothing")
    assert TextQuestion.read(model, TEXT, nothing).entry == entry
    assert len(attend(model, TEXT).tokens) == len(expected)
    cut, _ = tokenize_own(model, TEXT, max_length=3)
    assert cut["input_ids"] == expected[:3]
    pair, _ = tokenize_own(model, ("the film", "was good"))
    joined, _ = tokenize_own(model, "the film\nwas good")
    assert pair == joined


def test_a_classifier_reads_it_as_its_data(tmp_path: Path) -> None:
    model = models.load(str(fakes.save_model(tmp_path / "model")), device="cpu")
    entry, whole = tokenize_own(model, TEXT)
    assert [entry] == model.tokenize([TEXT])
    assert [whole] == model.count_tokens([TEXT])


@pytest.mark.parametrize("causal", [False, True])
def test_a_text_without_tokens_is_refused(causal: bool, tmp_path: Path) -> None:
    saved = fakes.save_language_model(tmp_path / "model", "causal", "llama")
    if not causal:
        saved = fakes.save_model(tmp_path / "classifier")
    with pytest.raises(DataError, match="no tokens"):
        tokenize_own(models.load(str(saved), device="cpu"), "")
