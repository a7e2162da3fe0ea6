"""The table of recoveries: every row is whole, and its cost is the one that was counted by hand."""

from __future__ import annotations

from dataclasses import fields

import pytest

from cahp.recoveries import (
    AT_ONCE,
    NONE,
    QUICK,
    RECOVERIES,
    Recovery,
    get_recovery,
    name_of_result,
    name_of_state,
)
from cahp.run.resources import STAGES
from cahp.stages.recovery import CLOSED_FORMS
from cahp.values import OptionError


@pytest.mark.parametrize("row", RECOVERIES.values(), ids=list(RECOVERIES))
def test_every_recovery_has_all_words(row: Recovery) -> None:
    assert RECOVERIES[row.name] is row
    words = {field.name: getattr(row, field.name) for field in fields(row) if field.type == "str"}
    assert set(words) == {"name", "result", "noun", "choice", "card", "solving", "solving_stage"}
    assert [name for name, word in words.items() if not word] == (["noun"] if row is NONE else [])
    assert row.after == ("" if row is NONE else f"after {row.noun}")
    assert name_of_result(row.name) == row.result
    assert row.card.startswith("; ")
    # Its time is estimated by stages that it reports.
    assert set(row.stages(100)) <= set(STAGES)


def test_each_recovery_in_closed_form_has_its_function() -> None:
    solving = [row for row in RECOVERIES.values() if row.solves and not row.trains]
    assert [row.name for row in solving if row.checked] == list(CLOSED_FORMS)
    # Nothing is run to accept it.
    assert [row.name for row in solving if not row.checked] == [AT_ONCE.name]
    assert [name for name, row in RECOVERIES.items() if not row.solves and not row.trains] == ["none"]


@pytest.mark.parametrize(
    ("name", "options", "passes"),
    [
        ("none", {}, 0),
        # 666 of 2,000 texts are solved on, which takes 4.1 passes, and 400 are held out, which takes 3.
        ("refit", {}, 666 * 4.1 + 1200),
        ("mean", {}, 666 + 1200),
        ("refit", {"can_refit": False}, 0),
        # An epoch is 3 passes over four fifths and 1 over the rest; the teacher answers all, the student the held-out.
        ("distill", {"can_refit": False}, 2000 * (1.2 + 3 * 2.6)),
        ("distill", {}, 666 * 4.1 + 1200 + 2000 * (1.2 + 3 * 2.6)),
        ("finetune", {"epochs": 1}, 2000 * 2.6),
        # Each of three rates is tried for an epoch.
        ("refit-finetune", {"can_refit": False, "epochs": 1}, 2000 * 2.6 * 4),
    ],
)
def test_passes_are_counted(name: str, options: dict[str, int], passes: float) -> None:
    assert RECOVERIES[name].passes(2000, **options) == pytest.approx(passes)


def test_an_unknown_recovery_is_refused_with_those_offered() -> None:
    assert get_recovery("refit") is QUICK
    with pytest.raises(OptionError, match=f"choose one of {', '.join(RECOVERIES)}$"):
        get_recovery("pray")
    compared = [name for name in RECOVERIES if name != "auto"]
    with pytest.raises(OptionError, match=f"choose one of {', '.join(compared)}$"):
        get_recovery("auto", choices=lambda row: not row.timed)
    assert name_of_result("pray") == name_of_state("pray") == "recovered"
