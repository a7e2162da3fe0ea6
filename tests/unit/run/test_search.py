"""Searches: for the fewest heads that reach a goal, and for swaps of heads that help."""

from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from fakes import prune

from cahp import methods
from cahp.recoveries import RECOVERIES
from cahp.run.bench import Bench, open_bench
from cahp.run.document import RunDocument
from cahp.run.prune import measure_run
from cahp.run.search import STAGE, _Trials, improve_heads, propose_swaps, search, swap
from cahp.run.settings import Settings
from cahp.stages import recovery
from cahp.stages.selection import top
from cahp.store import Store
from cahp.tasks.texts import Texts
from cahp.values import Cancelled, HeadMask, OptionError, Selection


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return fakes.quick_task(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("least", [6, 7, 31, 72])
def test_few_budgets_are_tried_until_the_least_that_reaches_the_goal_is_known(least: int) -> None:
    tried: list[int] = []

    def reaches(budget: int) -> bool:
        tried.append(budget)
        return budget >= least

    search(range(6, 73), reaches)
    assert min(budget for budget in tried if budget >= least) == least
    assert len(set(tried)) == len(tried) <= 9 + 3


@pytest.mark.parametrize("recover", ["none", "refit"])
def test_the_fewest_heads_that_keep_a_divergence_are_the_tables(settings: Settings, store: Store, recover: str) -> None:
    settings = replace(settings, recover=recover)
    state = "pruned" if recover == "none" else "recovered"
    highs = {}
    for budget in range(3, 13):
        outcomes = prune(replace(settings, budget=str(budget)), store=store).document.outcomes
        highs[budget] = outcomes.get(state, outcomes["pruned"])["kl"].high
    amount = float(f"{sorted(highs.values())[5]:.6f}") + 1e-6
    run = prune(replace(settings, goal=f"kl={amount:.6f}", report="test"), store=store)
    document = run.document
    fewest = min(budget for budget, high in highs.items() if high <= amount)
    assert (document.goal.heads, run.mask.count, document.budget.requested) == (fewest, fewest, fewest)
    assert document.goal.estimate == document.outcomes[state]["kl"]
    assert document.goal.confirmed is (document.report.outcomes[state]["kl"].high <= amount)
    assert RunDocument.from_json(document.to_json()) == document
    # The run without its recovery keeps the number of heads, not the goal.
    pruned = document.as_pruned(command=lambda settings: f"{settings.budget} {settings.goal}")
    assert (pruned.command, pruned.goal) == (f"{fewest} None", None)


def test_the_most_heads_that_save_cache_memory_are_counted(store: Store, settings: Settings, tmp_path: Path) -> None:
    model = fakes.save_language_model(tmp_path, "causal", "llama")
    asked = replace(settings, model=str(model), prompt=fakes.PROMPTS["causal"], answers=fakes.ANSWERS)
    document = prune(replace(asked, goal="kv-cache=-30%"), store=store).document
    # 3 layers of 4 groups: 8 of 12 are the most that are at most 70 %.
    assert (document.budget.attained, document.goal and document.goal.heads) == (8, 8)
    # Keys and values of 4 channels, 4 bytes each.
    assert (document.kv_cache.full, document.kv_cache.pruned) == (12 * 2 * 4 * 4, 8 * 2 * 4 * 4)
    assert RunDocument.from_json(document.to_json()) == document


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"budget": "5"}, "leave out --budget"),
        ({"recover": "distill"}, f"use one of {', '.join(row.name for row in RECOVERIES.values() if not row.trains)}$"),
        ({"select_time": "1s"}, "--select-time changes the heads after --goal"),
        ({"min_per_layer": 99}, "the heads to keep in a layer must be 0 to 4, got 99"),
        ({"goal": "kv-cache=-30%"}, "needs a causal language model"),
    ],
)
def test_what_cannot_be_searched_is_told(settings: Settings, store: Store, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        prune(replace(settings, **{"goal": "kl=1", **changes}), store=store)
    # Nor where its measure is not there.
    with pytest.raises(OptionError, match="--goal abilities cannot be measured here"):
        measure_run(open_bench(replace(settings, goal="abilities"), store=store))


@pytest.fixture(scope="module")
def searching(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return fakes.quick_task(tmp_path_factory.mktemp("search"), budget="5", select_time="27s")


def opened(searching: Settings, folder: Path, **options: Any) -> Bench:
    """A bench on whose clock a trial takes three seconds, since it is read three times until its end."""
    bench = open_bench(searching, store=Store(folder), **options)
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
def test_helpful_swaps(
    searching: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, confirmed: bool
) -> None:
    bench = opened(searching, tmp_path)
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


def test_a_search_goes_on_as_uninterrupted(
    searching: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = opened(searching, tmp_path / "whole")
    wanted, search = improve_heads(whole, worst(whole))
    original, solved = recovery.solve, []

    def solve(*arguments: Any, **options: Any) -> Any:
        solved.append(1)
        return original(*arguments, **options)

    monkeypatch.setattr(recovery, "solve", solve)

    def stop(stage: str, done: int, total: int) -> None:
        if stage == STAGE and len(solved) >= 4:
            raise Cancelled

    halted = opened(searching, tmp_path / "parts", progress=stop)
    with pytest.raises(Cancelled):
        improve_heads(halted, worst(halted))
    before = len(solved)
    resumed = opened(searching, tmp_path / "parts")
    found, repeated = improve_heads(resumed, worst(resumed))
    assert found.mask.flat == wanted.mask.flat
    assert repeated == search
    # The start and the swaps that were left, and two models of the confirmation.
    assert before == 4
    assert len(solved) - before == 9 - 4 + 2 * bool(search.swaps)
    again = opened(searching, tmp_path / "parts")
    improve_heads(again, worst(again))
    assert len(solved) == before + 9 - 4 + 2 * bool(search.swaps)


def test_too_few_texts_are_refused(searching: Settings, tmp_path: Path) -> None:
    bench = opened(replace(searching, limit=4), tmp_path)
    with pytest.raises(OptionError, match="at least 6 calibration texts"):
        improve_heads(bench, worst(bench))
