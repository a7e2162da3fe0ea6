from __future__ import annotations

import pytest

from cahp.terminal.progress import bars


def test_away_from_a_terminal_every_tenth_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with bars(quiet=False, lines=True, draws=False) as reporter:
        for done in range(0, 101, 5):
            reporter("compare", done, 100)
    said = capsys.readouterr().err.splitlines()
    assert [line.split("%")[0] for line in said] == [f"cahp: {tenth}0 " for tenth in range(1, 11)]
    assert said[-1] == "cahp: 100 % done, 0 s left"
