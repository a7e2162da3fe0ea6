from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import pytest
from fakes import prune

from cahp.recoveries import RECOVERIES
from cahp.run.bench import open_bench
from cahp.run.document import RunDocument
from cahp.run.prune import measure_run
from cahp.run.search import search
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import OptionError


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


def test_a_goal_whose_measure_is_not_there_is_refused(settings: Settings, store: Store) -> None:
    with pytest.raises(OptionError, match="--goal abilities cannot be measured here"):
        measure_run(open_bench(replace(settings, goal="abilities"), store=store))
