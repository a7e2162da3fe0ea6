from dataclasses import replace

import numpy as np
import pytest
from clusters import CARD, on_a_line
from documents import run_json

from cahp.board.budget_sweep import BudgetTable, Speed
from cahp.board.contents import BoardSubject, describe_headline, list_clauses
from cahp.board.state import Board, Choices
from cahp.run.document import RunDocument
from cahp.run.settings import Settings
from cahp.tasks import CLASSIFICATION, NEXT_TOKEN
from cahp.values import Estimate, HeadMask, MaskError


def choices(**settings: int) -> Choices:
    asked = Settings(**settings)  # type: ignore[arg-type]
    return Choices(CARD, asked, on_a_line(), BudgetTable(on_a_line().selections(asked)))


@pytest.fixture
def board() -> Board:
    return Board(choices)


def test_it_begins_with_the_suggestion_of_the_knee(board: Board) -> None:
    assert board.auto
    assert not board.by_hand
    # Most salient of each of three clusters: 1 of {0, 1}, 3 of {2, 3}, 5 of {4, 5}.
    assert board.mask.flat == [1, 3, 5]
    assert board.budget == 3
    assert board.labels.tolist() == [0, 0, 1, 1, 2, 2]
    # The clusters of a mask made by hand are those of its budget.
    board.set_budget(2)
    board.toggle(5)
    assert board.budget == 3
    assert len(np.unique(board.labels)) == 2


def test_undo_takes_one_change_back(board: Board) -> None:
    assert not board.can_undo
    board.set_budget(6)
    board.toggle(0)
    board.toggle(1)
    assert board.mask.flat == [2, 3, 4, 5]
    board.undo()
    assert board.mask.flat == [1, 2, 3, 4, 5]
    board.undo()
    assert board.mask.flat == [0, 1, 2, 3, 4, 5]
    board.undo()
    assert board.auto
    assert not board.can_undo
    board.undo()
    assert board.auto


def test_a_mask_that_empties_a_layer_is_refused_unless_the_floor_is_0(board: Board) -> None:
    with pytest.raises(MaskError, match="Layer 0 would keep no head"):
        board.toggle(1)
    assert board.auto
    first = Board(lambda: choices(min_per_layer=0, min_first_layers=1))
    with pytest.raises(MaskError, match=r"Layer 0 would keep no head, and the per-layer minimum is 1\."):
        first.set_mask(HeadMask.of([5], 2, 3))
    free = Board(lambda: choices(min_per_layer=0))
    free.set_mask(HeadMask.of([5], 2, 3))
    assert free.mask.empty_layers == (0,)
    with pytest.raises(MaskError, match="Keep at least one"):
        free.toggle(5)
    # One that another method chose is not made by hand until a person changes it.
    board.set_mask(HeadMask.of([0, 3, 5], 2, 3), method="obs-fisher")
    assert board.by_hand
    assert board.method == "obs-fisher"
    board.toggle(1)
    assert board.method == ""
    board.undo()
    assert board.method == "obs-fisher"


def test_what_was_put_on_it_stays_when_the_settings_change() -> None:
    now = [choices()]
    board = Board(lambda: now[0])
    board.set_budget(2)
    board.toggle(4)
    now[0] = choices(min_per_layer=2)
    assert board.mask.flat == [1, 3, 4]
    board.undo()
    # Two heads are below the new floor, whose fewest are 4.
    assert board.budget == 4
    # The groups of a number that was not tried are those of the nearest.
    clusters = on_a_line()
    sparse = replace(clusters.clustering, ks=np.array([2, 5]))
    of = replace(clusters, clustering=sparse)
    assert [of.groups(k)[0].max() for k in (1, 3, 4, 9, None)] == [1, 1, 2, 2, 2]


@pytest.mark.parametrize(
    ("clusters", "kept", "head", "nearest"),
    [
        pytest.param(3, [1, 3, 5], 2, (3, 1.0, True), id="of the same cluster"),
        pytest.param(3, [1, 5], 2, (1, 9.0, False), id="of all where the cluster has none"),
        pytest.param(2, [1, 2, 5], 1, (2, 9.0, True), id="never itself"),
    ],
)
def test_nearest_kept_head_covers(clusters: int, kept: list[int], head: int, nearest: tuple[int, float, bool]) -> None:
    labels = on_a_line().groups(clusters)[0]
    assert on_a_line().nearest_kept(HeadMask.of(kept, 2, 3), head, labels) == nearest


MASK = HeadMask.of([0, 2, 4], 2, 3)
FULL = HeadMask.full(2, 3)


def share(value: float) -> Estimate:
    return Estimate(value, (value, value), 100, "share")


def points(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, (low, high), 18, "points")


@pytest.mark.parametrize(
    ("agreement", "words", "of_words"),
    [
        (0.995, "do all the work", "keep all next words"),
        (0.9949, "do almost all the work", "keep almost all next words"),
        (0.95, "do almost all the work", "keep almost all next words"),
        (0.9, "do most of the work", "keep almost all next words"),
        (0.8999, "are too few", "keep most next words"),
        (0.6999, "are too few", "keep more than half of the next words"),
        (0.4999, "are too few", "are too few"),
    ],
)
def test_the_headline_follows_from_the_agreement(agreement: float, words: str, of_words: str) -> None:
    for task, said in ((CLASSIFICATION, words), (NEXT_TOKEN, of_words)):
        found = describe_headline(MASK, "head", {"agreement": share(agreement)}, task.words)
        assert found == f"3 of 6 heads {said}"


def test_clauses_name_what_is_lost_and_then_what_is_saved() -> None:
    faster = Speed(Estimate(0.73, (0.72, 0.74), 30, "ratio"), 60.0, 44.0)
    outcomes = {"accuracy_change": points(-2.3, -4.2, -0.6), "agreement": share(0.97)}
    clauses = list_clauses(MASK, outcomes, answers="answers", size=0.872, speed=faster)
    assert clauses == ["2.3 points less accurate", "27 % faster", "13 % smaller"]
    # Without labels, the agreement stands for the accuracy; a cache is counted.
    unlabelled = {"agreement": share(0.736)}
    clauses = list_clauses(MASK, unlabelled, answers="next words", cache=Estimate(0.8, None, 0, "ratio"))
    assert clauses == ["20 % less memory per token", "74 % of next words unchanged"]
    assert list_clauses(FULL, outcomes, answers="answers", size=1.0) == []
    # No clause claims a change that an interval does not show.
    same = Speed(Estimate(0.97, (0.9, 1.02), 30, "ratio"), 60.0, 58.0)
    busy = Speed(Estimate(0.5, (0.4, 0.6), 30, "ratio"), 60.0, 30.0, busy=True)
    calm = {"accuracy_change": points(-0.4, -1.0, 0.2)}
    for speed in (None, same, busy):
        clauses = list_clauses(MASK, calm, answers="answers", speed=speed)
        assert clauses == ["accuracy too close to call with 18 texts"]
    better = {"accuracy_change": points(1.5, 0.5, 2.5)}
    assert list_clauses(MASK, better, answers="answers") == ["1.5 points more accurate"]


def test_weights_leave_with_each_head_that_is_removed() -> None:
    run = run_json()
    run["cost"]["full"]["parameters"] = 1000
    run["cost"]["pruned"]["parameters"] = 850
    # The run keeps three of six heads.
    subject = BoardSubject.of(RunDocument.from_json(run))
    assert subject.size(HeadMask.of([0], 2, 3)) == pytest.approx(0.75)
    assert subject.size(FULL) == 1
