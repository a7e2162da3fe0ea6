"""Targets and scores of roles, with answers by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cahp.head_roles import NO_ROLE, ROLES, HeadRoles, RoleScores, find_targets, score_sequence, summarise

#: A start token, two words, and both again.
IDS, SPECIAL = np.array([2, 7, 8, 7, 8]), np.array([2])


def test_targets_are_places_and_earlier_copies() -> None:
    found = {name: np.argwhere(targets).tolist() for name, targets in find_targets(IDS, SPECIAL).items()}
    # The first two tokens are no queries.
    assert found["first"] == [[2, 0], [3, 0], [4, 0]]
    assert found["previous"] == [[2, 1], [3, 2], [4, 3]]
    assert found["current"] == [[2, 2], [3, 3], [4, 4]]
    assert found["duplicate"] == [[3, 1], [4, 2]]
    # After the earlier 7 stands 8; after the earlier 8 stands 7.
    assert found["induction"] == [[3, 2], [4, 3]]


def test_special_tokens_are_neither_queries_nor_copies() -> None:
    found = find_targets(np.array([2, 7, 2, 7, 3]), np.array([2, 3]))
    assert np.argwhere(found["previous"]).tolist() == [[3, 2]]
    assert np.argwhere(found["duplicate"]).tolist() == [[3, 1]]


def test_a_score_is_a_mean_over_queries_and_chance_that_of_a_random_visible_token() -> None:
    maps = np.tril(np.ones((1, 5, 5)))
    maps /= maps.sum(axis=2, keepdims=True)
    maps[0, 4] = [0, 0, 1, 0, 0]
    targets = find_targets(IDS, SPECIAL)
    (scores,) = score_sequence(maps, [targets["duplicate"], targets["previous"]])
    # The query 3 sees four tokens alike, and 4 only the copy.
    assert scores[0, :2] == pytest.approx([(1 / 4 + 1) / 2, (1 / 4 + 1) / 2])
    assert scores[1, 0] == pytest.approx((1 / 3 + 1 / 4 + 0) / 3)
    # No draw varies where all visible tokens have the same weight.
    assert scores[:, 2:] == pytest.approx(np.zeros((2, 2)))


def test_moments_of_chance_are_those_of_a_drawn_target() -> None:
    maps, target = np.zeros((1, 3, 3)), np.zeros((3, 3), dtype=np.bool_)
    maps[0, 2], target[2, 0] = [0.5, 0.3, 0.2], True
    ((scores,),) = score_sequence(maps, [target])
    drawn = np.array([0.5, 0.3, 0.2])
    away = drawn - drawn.mean()
    assert scores == pytest.approx([0.5, 1 / 3, (away**2).mean(), (away**3).mean()])
    # Among two candidates, only these are drawn.
    ((scores,),) = score_sequence(maps, [target], np.array([[1, 0, 1]] * 3, dtype=np.bool_))
    assert scores == pytest.approx([0.5, 0.35, 0.0225, 0.0])


def test_chance_gives_some_head_a_score_above_its_threshold_in_at_most_one_of_twenty_models() -> None:
    random, heads, sequences, queries, models = np.random.default_rng(0), 30, 8, 20, 200
    target = np.ones((queries, 1), dtype=np.bool_) & (np.arange(24) == 0)
    exceeded = 0
    for _ in range(models):
        # Each query attends to one of 24 tokens, whatever it says.
        where = random.integers(24, size=(sequences, heads, queries))
        scores = np.array([score_sequence(np.eye(24)[one], [target], np.ones((queries, 24), bool)) for one in where])
        one = summarise(scores[:, :, 0], queries, heads)
        exceeded += bool((np.array(one.value) > np.array(one.chance)).any())
    assert exceeded <= 0.05 * models * 1.5


def test_an_interval_is_student_s_over_sequences_and_one_sequence_has_none() -> None:
    scores = np.zeros((4, 1, 4))
    scores[:, 0, 0] = [0.2, 0.4, 0.4, 0.6]
    one = summarise(scores, 10, 1)
    half = 3.1824 * np.std([0.2, 0.4, 0.4, 0.6], ddof=1) / 2
    assert one.estimate(0).ci95 == pytest.approx((0.4 - half, 0.4 + half), abs=1e-4)
    assert summarise(scores[:1], 10, 1).estimate(0).ci95 is None


def test_a_group_is_named_by_its_most_telling_role() -> None:
    def scores(*value: float) -> RoleScores:
        return RoleScores(value, None, None, (0.1,) * 6, 1, 5)

    # Three groups of two query heads: an induction head beside a first-token head; two weak heads; a first-token head.
    found = HeadRoles(
        1, 3, 2, {"induction": scores(0, 0.3, 0, 0.19, 0, 0), "first": scores(0.9, 0, 0, 0.39, 0.4, 0)}, {}, (), ()
    )
    assert found.names == ("induction", NO_ROLE, "first")
    assert found.of_unit(0) == ("induction", "first")
    assert found.of_query_head(1) == ("induction",)
    assert found.counts == {"induction": 1, "first": 1, NO_ROLE: 1}
    assert found.best("induction", 1) == 3
    assert found.to_json()["names"] == [["induction", "none", "first"]]


def test_a_share_that_chance_explains_is_no_role() -> None:
    value, chance = (ROLES["first"].least,) * 2, (0.39, 0.41)
    scores = RoleScores(value, None, None, chance, 1, 5)
    assert HeadRoles(1, 2, 1, {"first": scores}, {}, (), ()).names == ("first", NO_ROLE)
