"""Releasing the budget slider runs code of at most 23 files."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from apps import explorer_of, open_app, rerun

from cahp.board import Event
from cahp.ui.frame import board

ROOT = Path(__file__).parents[3] / "cahp"


def test_a_released_budget_enters_few_files_until_its_figures_are_on_the_board(monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_app("budget")
    explorer, files = explorer_of(app), set[str]()

    def profile(frame: Any, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(ROOT):
            files.add(path.relative_to(ROOT).as_posix())

    def recorded(function: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any, **options: Any) -> None:
            before = sys.getprofile()
            sys.setprofile(profile)
            try:
                function(*arguments, **options)
            finally:
                sys.setprofile(before)

        return call

    recorded(board._handle)(explorer, Event("budget", budget=20))
    for name in ("measure", "draw"):
        monkeypatch.setattr(board, name, recorded(getattr(board, name)))
    rerun(app)
    assert explorer.board.budget == 20
    assert {"board/contents.py", "board/state.py", "board/budget_sweep.py", "ui/frame/board.py"} <= files
    assert len(files) <= 23, " ".join(sorted(files))
