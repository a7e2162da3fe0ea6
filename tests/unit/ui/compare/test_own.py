import shlex
from types import SimpleNamespace
from typing import cast
from unittest.mock import Mock

import pytest
from terminal import call

from cahp.comparison.plan import QUICK
from cahp.run.settings import Settings
from cahp.tasks import CLASSIFICATION
from cahp.ui.compare import own
from cahp.ui.session.explorer import Explorer
from cahp.values import CahpError, HeadMask


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
    explorer = SimpleNamespace(settings=settings, card=SimpleNamespace(layers=3, heads=4, task=CLASSIFICATION))
    plan = own._plan(cast(Explorer, explorer), ["random", "complementary"], "6, 25%", 3, ["refit"])
    measure = Mock(side_effect=CahpError("That is enough."))
    monkeypatch.setattr("cahp.api.compare.measure", measure)
    program, *words = shlex.split(own.command(plan, QUICK))
    assert program == "cahp"
    assert call(*words).err.endswith("That is enough.\n")
    assert measure.call_args.args[0] == plan
    assert (plan.methods, plan.seeds, plan.recoveries) == (("complementary", "random"), (42, 43, 44), ("none", "refit"))
    # As many masks of chance as the preset draws over three seeds, at each of two budgets.
    assert len([cell for cell in plan.cells(HeadMask.full(3, 4)) if cell.method == "random"]) == 2 * 2 * 2
