"""Calls use the fields of ``Settings``; a keyword replaces a field's default, and may not disagree otherwise."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import cahp
from cahp.recoveries import RECOVERIES
from cahp.run.settings import Settings
from cahp.values import Cancelled, OptionError

#: The module of a verb that has another name, and what a verb calls with its settings.
HOMES = {"recover": "cahp.api.export"}
NEXT = {"recover": "open_bench", "export": "open_bench", "compare": "measure"}


@pytest.fixture
def ask(settings: Settings, mask: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Call a verb with settings whose fields are changed, and return those with which it would work."""

    def call(verb: str, fields: dict[str, Any], **keywords: Any) -> Settings:
        needed = {"recover": {"mask": mask, "out": tmp_path / "out"}, "export": {"mask": mask, "out": tmp_path / "out"}}
        reached: list[Any] = []

        def stop(asked: Any, **_: Any) -> None:
            reached.append(asked)
            raise Cancelled

        monkeypatch.setattr(import_module(HOMES.get(verb, f"cahp.api.{verb}")), NEXT[verb], stop)
        with pytest.raises(Cancelled):
            getattr(cahp, verb)(replace(settings, **fields), **needed.get(verb, {}), **keywords)
        (asked,) = reached
        return getattr(asked, "settings", asked)

    return call


@pytest.mark.parametrize(
    ("verb", "fields", "keywords", "texts"),
    [
        ("recover", {"recover": "distill"}, {}, {}),
        ("export", {"recover": "none"}, {}, {}),
        ("compare", {"limit": None, "eval_limit": 16}, {}, {}),
        # A keyword repeats a field or replaces its default.
        ("recover", {"recover": "refit"}, {"recover": "refit"}, {}),
        ("recover", {"recover": "none"}, {"recover": "refit"}, {}),
        ("compare", {"eval_limit": 16}, {"limit": 24}, {}),
        # Where settings have the default, a comparison reads the texts of its preset.
        ("compare", {}, {}, {"limit": 400, "eval_limit": 300}),
        ("compare", {"limit": 24}, {}, {"eval_limit": 300}),
    ],
)
def test_a_call_honours_the_fields_of_settings(
    ask: Any, settings: Settings, verb: str, fields: dict[str, Any], keywords: dict[str, Any], texts: dict[str, int]
) -> None:
    assert ask(verb, fields, **keywords) == replace(settings, **{**fields, **keywords, **texts})


def test_a_training_takes_the_number_of_texts_and_the_seed_of_settings(
    settings: Settings, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int | None, int]] = []

    def stop(texts: Any, limit: int | None, *, seed: int) -> None:
        drawn.append((limit, seed))
        raise Cancelled

    monkeypatch.setattr("cahp.data.sample", stop)
    for asked in (
        {"model": replace(settings, model=str(encoder), limit=24, seed=7)},
        {"model": encoder, "data": settings.data},
        {"model": replace(settings, model=str(encoder))},
        {"model": encoder, "data": settings.data, "limit": 16, "seed": 1},
        {"model": replace(settings, model=str(encoder)), "limit": Settings.limit},
    ):
        with pytest.raises(Cancelled):
            cahp.fit(**asked, out=tmp_path / "out")  # type: ignore[arg-type]
    assert drawn == [(24, 7), (None, 42), (None, 42), (16, 1), (2000, 42)]


def test_settings_without_a_recovery_are_refused_by_recover(settings: Settings, mask: Path, tmp_path: Path) -> None:
    others = ", ".join(name for name in RECOVERIES if name != "none")
    with pytest.raises(OptionError, match=f"--recover none cannot be used here; choose one of {others}$"):
        cahp.recover(settings, mask=mask, out=tmp_path / "out")
