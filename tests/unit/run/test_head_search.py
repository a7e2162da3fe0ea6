"""Swaps of heads: what is proposed, what is accepted, and what an interruption leaves."""

from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest

from cahp import methods
from cahp.run.bench import Bench, open_bench
from cahp.run.search import STAGE, _Trials, improve_heads, propose_swaps, swap
from cahp.run.settings import Settings
from cahp.stages import recovery
from cahp.stages.selection import top
from cahp.store import Store
from cahp.tasks.texts import Texts
from cahp.values import Cancelled, HeadMask, OptionError, Selection


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return fakes.quick_task(tmp_path_factory.mktemp("search"), budget="5", select_time="27s")


def opened(settings: Settings, folder: Path, **options: Any) -> Bench:
    """A bench on whose clock a trial takes three seconds, since it is read three times until its end."""
    bench = open_bench(settings, store=Store(folder), **options)
    ticks = count()
    bench.resources.clock = lambda: float(next(ticks))
    return bench


def worst(bench: Bench) -> Selection:
    """The heads that are removed first, which any others can improve."""
    scores = methods.get("obs-fisher").score(bench.evidence)  # type: ignore[attr-defined]
    return top(-scores, budget=5)


def test_the_swap_that_promises_most_comes_first_and_no_layer_falls_below_its_minimum() -> None:
    losses, mask = np.array([[1.0, 5.0], [2.0, 9.0]]), HeadMask(np.array([[True, False], [False, True]]))
    # Head 0 costs 1 and head 3 costs 9 to remove; restoring head 1 wins 5 and head 2 wins 2.
    assert list(propose_swaps(losses, mask, 0)) == [(0, 1), (0, 2), (3, 1), (3, 2)]
    assert list(propose_swaps(losses, mask, 1)) == [(0, 1), (3, 2)]
    # Layer 1 alone may lose its head.
    assert list(propose_swaps(losses, mask, np.array([1, 0]))) == [(0, 1), (3, 1), (3, 2)]
    assert swap(mask, 0, 2).flat == [2, 3]


@pytest.mark.parametrize("confirmed", [True, False])
def test_swaps_are_accepted_while_they_help_and_undone_unless_other_texts_confirm_them(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, confirmed: bool
) -> None:
    bench = opened(settings, tmp_path)
    start = worst(bench)
    # The fewer of the heads at the start are left, the better; on the confirming texts, perhaps the worse.
    asked: list[HeadMask] = []

    def divergences(trials: _Trials, mask: HeadMask, texts: Texts) -> tuple[np.ndarray, float]:
        asked.append(mask)
        same = len(set(mask.flat) & set(start.mask.flat))
        return np.full(40, 0.1 * same if texts is trials.compared or confirmed else -0.1 * same), 3.0

    monkeypatch.setattr(_Trials, "divergences", divergences)
    improved, search = improve_heads(bench, start)
    # The clock allows the start and eight swaps. Those that replace a head of the start by another are accepted.
    assert (search.seconds, search.tried) == (27.0, 8)
    assert search.swaps
    assert all(one.change.value == pytest.approx(-0.1) for one in search.swaps)
    mask = start.mask
    for one in search.swaps:
        mask = swap(mask, *(layer * mask.heads + head for layer, head in (one.removed, one.restored)))
    fewer = 5 - len(set(mask.flat) & set(start.mask.flat))
    assert fewer == len(search.swaps)
    assert search.change.value == pytest.approx(-0.1 * fewer if confirmed else 0.1 * fewer)
    assert search.kept is not confirmed
    assert improved.mask.flat == (mask if confirmed else start.mask).flat
    assert all(one.count == 5 and not one.empty_layers for one in asked)


def test_a_search_goes_on_as_uninterrupted(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = opened(settings, tmp_path / "whole")
    wanted, search = improve_heads(whole, worst(whole))
    original, solved = recovery.solve, []

    def solve(*arguments: Any, **options: Any) -> Any:
        solved.append(1)
        return original(*arguments, **options)

    monkeypatch.setattr(recovery, "solve", solve)

    def stop(stage: str, done: int, total: int) -> None:
        if stage == STAGE and len(solved) >= 4:
            raise Cancelled

    halted = opened(settings, tmp_path / "parts", progress=stop)
    with pytest.raises(Cancelled):
        improve_heads(halted, worst(halted))
    before = len(solved)
    resumed = opened(settings, tmp_path / "parts")
    found, repeated = improve_heads(resumed, worst(resumed))
    assert found.mask.flat == wanted.mask.flat
    assert repeated == search
    # The start and the swaps that were left, and two models of the confirmation.
    assert before == 4
    assert len(solved) - before == 9 - 4 + 2 * bool(search.swaps)
    again = opened(settings, tmp_path / "parts")
    improve_heads(again, worst(again))
    assert len(solved) == before + 9 - 4 + 2 * bool(search.swaps)


def test_too_few_texts_are_refused(settings: Settings, tmp_path: Path) -> None:
    bench = opened(replace(settings, limit=4), tmp_path)
    with pytest.raises(OptionError, match="at least 6 calibration texts"):
        improve_heads(bench, worst(bench))
