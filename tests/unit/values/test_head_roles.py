"""Targets and scores of roles, with answers by hand."""

import numpy as np
import pytest

from cahp.values.head_roles import NO_ROLE, HeadRoles, RoleScores, find_targets, score_sequence, score_text, summarise

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


def test_a_score_is_a_mean_over_queries_and_chance_that_of_a_random_visible_token() -> None:
    maps = np.tril(np.ones((1, 5, 5)))
    maps /= maps.sum(axis=2, keepdims=True)
    maps[0, 4] = [0, 0, 1, 0, 0]
    targets = find_targets(IDS, SPECIAL)
    (scores,) = score_sequence(maps, [targets["duplicate"], targets["previous"]])
    # The query 3 attends to four tokens alike, and 4, which sees five, only to the copy.
    assert scores[0, :2] == pytest.approx([(1 / 4 + 1) / 2, (1 / 4 + 1 / 5) / 2])
    assert scores[1, 0] == pytest.approx((1 / 3 + 1 / 4 + 0) / 3)
    # Only the draw of query 4 varies: the copy is one of five.
    assert scores[:, 2] == pytest.approx([0.16 / 4, 0.16 / 9])


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
    assert found.of_units[:2] == [["induction", "first"], []]
    assert found.counts == {"induction": 1, "first": 1, NO_ROLE: 1}
    assert found.to_json()["names"] == [["induction", "none", "first"]]


def test_the_roles_on_a_text_are_those_that_it_shows() -> None:
    # Twelve words, and all of them again: head 0 attends to the copies, head 1 to the token before.
    ids = np.array([2, *range(10, 22), *range(10, 22)])
    maps = np.zeros((1, 2, len(ids), len(ids)))
    maps[0, :, :, 0] = 1.0
    for query in range(13, 25):
        maps[0, 0, query] = np.eye(len(ids))[query - 12]
    for query in range(1, 25):
        maps[0, 1, query] = np.eye(len(ids))[query - 1]
    found = score_text(maps, ids, SPECIAL)
    assert found.names == ("duplicate", "previous")
    assert found.describe(1).startswith("previous token; it gives 100.0 % of its attention to the token before")
    assert found.scores["duplicate"].queries == 12
    # Without a repeated word there is no copy to attend to, and attention to later tokens shows no induction.
    assert set(score_text(maps[:, :, :13, :13], ids[:13], SPECIAL).scores) == {"previous", "current", "first"}
    maps[0, 0, 0, 5] = 0.5
    assert "induction" not in score_text(maps, ids, SPECIAL).scores
