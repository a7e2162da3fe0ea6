"""What a comparison is asked: how many masks, drawn with which numbers, and what is refused."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from fake_methods import HEADS, LAYERS, Counted, Tuned, plan

from cahp.comparison import make_plan
from cahp.comparison.plan import read_seeds
from cahp.comparison.running import compare
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import BudgetError, OptionError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_cells_cross_methods_budgets_and_seeds_with_the_stated_draws(settings: Settings) -> None:
    cells = plan(settings, "counted", "tossed").cells(layers=LAYERS, heads=HEADS)
    assert Counter((cell.method, cell.budget) for cell in cells) == {
        ("counted", 4): 2,
        ("counted", 6): 2,
        # Five draws over two seeds: three and two.
        ("tossed", 4): 5,
        ("tossed", 6): 5,
    }
    drawn = [cell for cell in cells if cell.method == "tossed" and cell.budget == 4]
    assert Counter(cell.seed for cell in drawn) == {42: 3, 43: 2}
    assert len({cell.noise for cell in drawn}) == 5
    assert {cell.noise for cell in cells if cell.method == "counted"} == {42, 43}


def test_a_method_takes_part_with_other_per_layer_minima_and_the_same_draws(settings: Settings) -> None:
    asked = plan(settings, "tossed", "tossed-min-0", "tossed-min-2", budgets=("6",), recoveries=("refit",))
    cells = asked.cells(layers=LAYERS, heads=HEADS)
    noise = {name: [cell.noise for cell in cells if cell.method == name] for name in asked.methods}
    assert len(noise["tossed"]) == 5
    assert noise["tossed"] == noise["tossed-min-0"] == noise["tossed-min-2"]
    assert all("refit" in cell.recoveries for cell in cells)
    with pytest.raises(BudgetError):
        plan(settings, "tossed-min-2", budgets=("4",)).cells(layers=LAYERS, heads=HEADS)
    with pytest.raises(OptionError, match="there is no method 'nobody'"):
        plan(settings, "nobody-min-0")


def test_gates_are_learned_at_their_own_budgets(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counted, "learned", True, raising=False)
    monkeypatch.setattr(Tuned, "learned", False)
    cells = plan(settings, "counted", "tuned", trained_budgets=("6",)).cells(layers=LAYERS, heads=HEADS)
    assert {(cell.method, cell.budget) for cell in cells} == {("counted", 6), ("tuned", 4), ("tuned", 6)}


def test_only_the_methods_and_budgets_of_the_plan_have_their_masks_trained(settings: Settings) -> None:
    asked = plan(settings, "counted", "tossed", recoveries=("refit", "distill", "finetune"), trained=("tossed",))
    cells = asked.cells(layers=LAYERS, heads=HEADS)
    for recovery, methods in (("distill", {"tossed"}), ("finetune", {"tossed"}), ("refit", {"counted", "tossed"})):
        assert {cell.method for cell in cells if recovery in cell.recoveries} == methods
    at = replace(asked, trained=None, trained_budgets=("6",)).cells(layers=LAYERS, heads=HEADS)
    assert {cell.budget for cell in at if "distill" in cell.recoveries} == {6}
    assert {cell.budget for cell in at if "refit" in cell.recoveries} == {4, 6}


@pytest.mark.parametrize(("text", "seeds"), [("3", (42, 43, 44)), ("7,11", (7, 11)), ("7,", (7,)), (" 5 , 6 ", (5, 6))])
def test_seeds_are_a_number_of_them_or_a_list(text: str, seeds: tuple[int, ...]) -> None:
    assert read_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "x", "1.5", "-1", "0", "2000", "1,x", "²"])
def test_seeds_that_are_neither_are_refused(text: str) -> None:
    with pytest.raises(OptionError):
        read_seeds(text)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"methods": ()}, "is empty"),
        ({"methods": ("counted", "counted")}, "twice"),
        ({"methods": ("nobody",)}, "there is no method 'nobody'"),
        ({"recoveries": ("pray",)}, "--recover pray is unknown"),
        ({"recoveries": ("auto",)}, "speed of the machine"),
        ({"tries": 0}, "--tries 0"),
        ({"seeds": (-1,)}, "--seed -1"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(settings: Settings, options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        plan(settings, "counted", **options)


@pytest.mark.parametrize("budgets", [("2",), ("13",), ("auto",), ("6", "50%")])
def test_budgets_that_do_not_compare_are_refused(settings: Settings, store: Store, budgets: tuple[str, ...]) -> None:
    with pytest.raises(BudgetError):
        compare(plan(settings, "counted", budgets=budgets), store=store)
    assert Counted.asked == []


def test_named_methods_bring_no_preset_s_short_cuts_and_a_preset_can_be_changed() -> None:
    named = make_plan(Settings(), methods="random")
    assert (named.draws, len(named.seeds), named.settings.limit) == (None, 5, 2000)
    quick = make_plan(Settings())
    assert (quick.budgets, quick.seeds, quick.settings.limit) == (("12", "36"), (42, 43), 400)
    assert (quick.settings.eval_limit, quick.recoveries) == (300, ("none", "refit"))
    assert not {"attattr", "ablation-greedy"} & set(quick.methods)
    changed = make_plan(Settings(), preset="full", budgets="8", limit=10, tries=2)
    assert (changed.budgets, changed.trained_budgets, changed.settings.limit, changed.tries) == (("8",), None, 10, 2)
    with pytest.raises(OptionError):
        make_plan(Settings(), preset="slow")
