from __future__ import annotations

import pytest

from cahp.comparison.asking import asked
from cahp.run.settings import Settings
from cahp.values import OptionError


def test_named_methods_bring_no_preset_s_short_cuts_and_a_preset_can_be_changed() -> None:
    named = asked(Settings(), methods="random")
    assert (named.draws, named.recovered_draws, len(named.seeds), named.settings.limit) == (None, None, 5, 2000)
    quick = asked(Settings())
    assert (quick.budgets, quick.seeds, quick.settings.limit) == (("12", "36"), (42, 43), 400)
    assert (quick.settings.eval_limit, quick.recoveries) == (300, ("none", "refit"))
    assert not {"attattr", "ablation-greedy"} & set(quick.methods)
    changed = asked(Settings(), preset="full", budgets="8", limit=10, tries=2)
    assert (changed.budgets, changed.learned_budgets, changed.settings.limit, changed.tries) == (("8",), None, 10, 2)
    with pytest.raises(OptionError):
        asked(Settings(), preset="slow")


def test_lists_may_be_written_with_commas_or_be_lists() -> None:
    written = asked(Settings(), methods="random, magnitude", budgets="6,12", seeds="2", recover="refit")
    assert (
        asked(Settings(), methods=["random", "magnitude"], budgets=[6, "12"], seeds=[42, 43], recover=("refit",))
        == written
    )
    assert asked(Settings(), methods="random", seeds=2).seeds == (42, 43)
