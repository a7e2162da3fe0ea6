from typing import Any

import fakes
import numpy as np
import pytest
import torch

from cahp.models.head_model import HeadModel
from cahp.models.surgery import find_bypass
from cahp.recoveries import RECOVERIES
from cahp.stages.evaluation import evaluate
from cahp.stages.recovery import (
    choose_directions,
    collect_grams,
    collect_word_grams,
    refit,
    solve,
    solve_at_once,
    solve_beside,
)
from cahp.values import DataError, HeadMask, OptionError

TEXTS = fakes.sentences(400).inputs
MASK = HeadMask(np.array([[True, False, False, True], [True] * 4, [False] * 4]))


def test_the_solution_is_that_of_least_squares() -> None:
    """Of a layer with five channels, seven functions of the words and an intercept, by a solver of whole systems."""
    generator = np.random.default_rng(0)
    design = np.hstack([generator.normal(size=(50, 12)), np.ones((50, 1))])
    target, before = generator.normal(size=(50, 4)), generator.normal(size=(6, 4))
    ridge, own, words = 0.1, np.r_[:5, 12], slice(5, 12)
    squares = np.square(design).sum(0)
    penalty = ridge * squares
    penalty[:5] = ridge * squares[:5].mean()
    penalty[12] = 0

    def least_squares(columns: Any, wanted: Any, start: Any) -> Any:
        # The penalty as further rows.
        system = np.vstack([design[:, columns], np.diag(np.sqrt(penalty[columns]))])
        right = np.vstack([wanted - design[:, columns] @ start, np.zeros((len(columns), 4))])
        return start + np.linalg.lstsq(system, right, rcond=None)[0]

    start = np.zeros((13, 4))
    start[own] = before
    beside = least_squares(np.arange(13), target, start)[words]
    _, _, directions = np.linalg.svd(design[:, words] @ beside)
    gram, cross = torch.from_numpy(design.T @ design), torch.from_numpy(design.T @ target)
    for rank in (1, 2, 4):
        solved, down, up = solve_beside(gram, cross, torch.from_numpy(before), words, ridge=ridge, rank=rank)
        cut_beside = beside @ directions[:rank].T @ directions[:rank]
        np.testing.assert_allclose((up @ down).T, cut_beside, atol=1e-8)
        left = least_squares(own, target - design[:, words] @ cut_beside, before)
        np.testing.assert_allclose(solved, left, atol=1e-8)


def test_layers_that_keep_all_heads_have_none(model: HeadModel) -> None:
    solved = solve(model, MASK, TEXTS, rank=4)
    assert [find_bypass(solved, layer) is not None for layer in range(3)] == [True, False, True]


def test_it_comes_nearer_to_the_full_model_than_a_refit_does(model: HeadModel) -> None:
    distance = {}
    for name, options in (("refit", {}), ("bypass", {"rank": 8})):
        made, report = refit(model, MASK, TEXTS, recovery=RECOVERIES[name], **options)
        assert report.accepted
        assert report.recovery == name
        distance[name] = measure(model, made)
    assert distance["bypass"] < 0.8 * distance["refit"]


def test_what_words_predict_of_contexts_is_all_that_they_tell_beside_some() -> None:
    generator = np.random.default_rng(0)
    words, mixing = generator.normal(size=(300, 20)), generator.normal(size=(20, 6))
    contexts = np.tanh(words @ mixing) + generator.normal(size=(300, 6))
    weights = generator.normal(size=(5, 3, 2))
    gram, cross = (torch.from_numpy(words.T @ other) for other in (words, contexts))
    reader = choose_directions(gram, cross, torch.from_numpy(weights), 6, ridge=1e-12).numpy()
    removed = contexts[:, :2]
    left = [
        removed - design @ np.linalg.lstsq(design, removed, rcond=None)[0]
        for design in (np.hstack([contexts[:, 2:], words]), np.hstack([contexts[:, 2:], words @ reader]))
    ]
    np.testing.assert_allclose(left[1], left[0], atol=1e-8)


def measure(model: HeadModel, made: HeadModel) -> float:
    """The KL divergence of fresh texts."""
    drawn = fakes.sentences(400, seed=3)
    full = evaluate(model, drawn).log_probabilities
    return float((np.exp(full) * (full - evaluate(made, drawn).log_probabilities)).sum(1).mean())


def test_the_quick_form_needs_one_pass_of_the_full_model(model: HeadModel) -> None:
    # Four directions of what the words tell for each one that is kept, but no more than there are contexts: 32.
    grams = {rank: collect_word_grams(model, TEXTS, rank=rank) for rank in (2, 8)}
    assert {rank: one.products.shape for rank, one in grams.items()} == {2: (3, 41, 41), 8: (3, 65, 65)}
    made = {rank: solve_at_once(model, MASK, one, rank=rank) for rank, one in grams.items()}
    assert [find_bypass(made[2], layer) is not None for layer in range(3)] == [True, False, True]
    plain = measure(model, solve_at_once(model, MASK, collect_grams(model, TEXTS)))
    assert measure(model, made[8]) < 0.8 * measure(model, made[2]) < 0.8 * plain
    with pytest.raises(OptionError, match="--bypass-rank 0"):
        collect_word_grams(model, TEXTS, rank=0)


@pytest.mark.parametrize(
    ("rank", "texts", "error", "said"),
    [
        (0, TEXTS, OptionError, r"--bypass-rank 0 is out of range; it must be in 1\.\.32"),
        (33, TEXTS, OptionError, r"--bypass-rank 33 is out of range"),
        (8, TEXTS[:2], DataError, r"needs at least \d+ tokens to solve for, and there are \d+; raise --limit"),
    ],
)
def test_what_cannot_be_solved_is_one_clear_error(
    model: HeadModel, rank: int, texts: list[str], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        solve(model, MASK, texts, rank=rank)
