"""The table of recoveries: every row is whole, and its cost is the one that was counted by hand."""

import pytest

from cahp.recoveries import QUICK, RECOVERIES, get_recovery, name_of_result, name_of_state
from cahp.values import OptionError


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
        # Windows that choose the heads of a language model; five times as many recover it, or are tuned on as they are.
        ("refit", {"growth": 0.016}, 26 * 4.1 + 19.2),
        ("quick-refit", {"growth": 5}, 666),
        ("refit-finetune", {"growth": 0.016, "epochs": 1}, 26 * 4.1 + 19.2 + 2000 * 2.6 * 4),
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
