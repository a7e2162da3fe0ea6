from dataclasses import replace

import numpy as np
import pytest
from clusters import CARD, on_a_line

from cahp.board.budget_sweep import BudgetTable
from cahp.board.state import Board, Choices
from cahp.run.settings import Settings
from cahp.values import HeadMask, MaskError


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


def test_the_clusters_of_a_mask_made_by_hand_are_those_of_its_budget(board: Board) -> None:
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


def test_a_mask_that_another_method_chose_is_not_made_by_hand_until_a_person_changes_it(board: Board) -> None:
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


def test_the_groups_of_a_number_that_was_not_tried_are_those_of_the_nearest() -> None:
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
