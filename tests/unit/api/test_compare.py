"""``cahp.compare`` and its result."""

from typing import Any

import pytest
from comparisons import varied

import cahp
from cahp.api.compare import CompareResult
from cahp.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def found() -> CompareResult:
    made = varied()
    return CompareResult(made.document, made.answers, made.written)


def test_lists_and_a_plan_give_the_same_comparison(asked: dict[str, Any], store: Store) -> None:
    options = {name: asked[name] for name in ("model", "data", "device")}
    lists: dict[str, Any] = {"methods": ["complementary", "magnitude"], "budgets": [4, 6], "seeds": 1}
    found = cahp.compare(**options, **lists, limit=40, eval_limit=20, store=store)
    assert isinstance(found, cahp.CompareResult)
    assert {one.budget for one in found.summary.means} == {4, 6}


def test_its_table_holds_the_means_with_their_intervals(found: CompareResult) -> None:
    table = found.table
    assert len(table["recovery"]) == len(found.results.means)
    place = tuple(table[name][0] for name in ("recovery", "method", "budget"))
    estimate = found.results.means[place].outcomes["accuracy"]
    shown = [table[f"accuracy{end}"][0] for end in ("", "_low", "_high")]
    assert shown == [estimate.value, estimate.low, estimate.high]


@pytest.mark.parametrize("name", ["curve", "ranking", "differences"])
def test_every_figure_of_the_page_is_drawn(found: CompareResult, name: Any) -> None:
    pytest.importorskip("plotly", reason="what draws figures is not installed")
    figure = found.plot(name, recovery="refit", budget=3)
    assert figure.layout.title.text
    assert len(figure.data) > 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": "costs"}, "there is no figure 'costs'; choose one of curve, ranking, differences"),
        ({"recovery": "magic"}, "there is no recovery 'magic'; choose one of none, refit"),
        ({"budget": 99}, "there is no budget 99; choose one of 3, 5"),
        ({"outcome": "kl"}, "there is no outcome 'kl'; choose one of agreement, accuracy"),
        ({"methods": ["luck"]}, "there is no method 'luck'; choose one of complementary"),
    ],
)
def test_what_was_not_compared_is_refused(found: CompareResult, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(cahp.CahpError, match=sentence):
        found.plot(**options)


def test_in_a_notebook_it_is_a_table_for_each_recovery_that_needs_no_script(found: CompareResult) -> None:
    shown = found._repr_html_()
    assert shown.count("<table>") == 2
    mean = found.results.means["refit", "complementary", 3].outcomes[found.results.outcome]
    assert f"{mean.text} {mean.interval}" in shown
    assert "<script" not in shown
