import shlex
from types import SimpleNamespace
from typing import Any, cast

import pytest
from terminal import call

from cahp.comparison.plan import QUICK, Plan
from cahp.run.settings import Settings
from cahp.tasks import CLASSIFICATION
from cahp.ui.compare import own
from cahp.ui.session.explorer import Explorer
from cahp.values import CahpError


def planned(settings: Settings) -> Plan:
    """What a person with these settings asks for on the page."""
    explorer = SimpleNamespace(settings=settings, card=SimpleNamespace(layers=3, heads=4, task=CLASSIFICATION))
    return own._plan(cast(Explorer, explorer), ["random", "complementary"], "6, 25%", 3, ["refit"])


def typed(line: str, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """What the command is about to measure."""
    plans: list[Plan] = []

    def compare(plan: Plan, **_: Any) -> None:
        plans.append(plan)
        raise CahpError("That is enough.")

    monkeypatch.setattr("cahp.api.compare.measure", compare)
    program, *words = shlex.split(line)
    assert program == "cahp"
    assert call(*words).err.endswith("That is enough.\n")
    return plans[0]


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(recover="distill", budget="6", latency=False, seed=7, report="test"),
        Settings(salience="example", projection="pca", poly_degree=3, pool_size=8, representative="medoid"),
        Settings(min_per_layer=0, min_first_layers=1, device="cpu"),
        Settings(model="some/model", data="reviews.csv", text_column="a b", label_map={"yes": "1", "no": "0"}),
        Settings(model="gpt2", data="reviews.csv", prompt="{text} It was", answers=("bad", "good")),
    ],
)
def test_the_command_measures_the_same_as_the_page(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(settings)
    assert typed(own.command(plan, QUICK), monkeypatch) == plan
    assert (plan.methods, plan.seeds, plan.recoveries) == (("complementary", "random"), (42, 43, 44), ("none", "refit"))
    # As many masks of chance as the preset draws over three seeds, at each of two budgets.
    assert len([cell for cell in plan.cells(layers=3, heads=4) if cell.method == "random"]) == 2 * 2 * 2
