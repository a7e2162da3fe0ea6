from __future__ import annotations

import numpy as np
import pytest
import torch

from cahp.features.own_text import measuring as own_text
from cahp.features.own_text.measuring import AnswersOverBudgets, over_budgets, read_text
from cahp.models.head_model import HeadModel
from cahp.models.surgery import cut
from cahp.values import HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = "the film was great and very long"
FULL, MASK = HeadMask.full(3, 4), HeadMask.of([0, 3, 4, 9], 3, 4)


def test_a_text_is_answered_as_the_model_itself_answers_it(model: HeadModel) -> None:
    found = read_text(model, TEXT, FULL)
    with torch.no_grad():
        logits = model.network(**model.tokenizer(TEXT, return_tensors="pt")).logits[0]
    assert found.probabilities == pytest.approx(logits.double().softmax(-1).numpy(), abs=1e-6)
    assert found.answer == int(logits.argmax())


def test_the_masked_and_the_cut_model_read_a_text_alike(model: HeadModel) -> None:
    masked, cut_out = read_text(model, TEXT, MASK), read_text(cut(model, MASK), TEXT, MASK, masked=False)
    assert masked.probabilities == pytest.approx(cut_out.probabilities, abs=1e-5)


def test_every_budget_is_answered_as_its_mask_alone_is(model: HeadModel) -> None:
    masks = [HeadMask.of(range(count), 3, 4) for count in range(1, 13)]
    found = over_budgets(model, TEXT, masks)
    assert found.budgets == tuple(range(1, 13))
    for mask, row in zip(masks, found.probabilities, strict=True):
        assert row == pytest.approx(read_text(model, TEXT, mask).probabilities, abs=1e-5)


def test_of_a_long_text_some_budgets_are_tried_both_ends_among_them(
    model: HeadModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_text, "_TOKENS", 0)
    monkeypatch.setattr(own_text, "_FEWEST", 4)
    masks = [HeadMask.of(range(count), 3, 4) for count in range(1, 13)]
    assert over_budgets(model, TEXT, masks).budgets == (1, 5, 8, 12)


@pytest.mark.parametrize(
    ("answers", "steady"), [([1, 0, 1, 1], 3), ([1, 1, 1, 1], 1), ([1, 1, 1, 0], None), ([0, 0, 0, 1], 4)]
)
def test_an_answer_is_steady_down_to_the_first_budget_that_changes_it(answers: list[int], steady: int | None) -> None:
    assert AnswersOverBudgets((1, 2, 3, 4), np.eye(2)[answers]).steady_down_to(1) == steady
    words = {70: "no", 7: "yes"}
    assert AnswersOverBudgets((1, 2, 3, 4), np.eye(2)[answers], words).steady_down_to(7) == steady
