"""A field of ``Settings`` is the one description of an option: its type, bounds, flag, keyword and cache keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from cahp.cli.command import Call, command
from cahp.run.settings import IN_DIGESTS, Settings, describe, flags, key_fields, option, to_arguments
from cahp.values import CahpError, OptionError


def test_numbers_and_paths_stand_for_texts_where_that_is_clear() -> None:
    asked: Any = {
        "budget": 20,
        "latency_time": 5,
        "recover_time": 1.5,
        "model": Path("models/tiny"),
        "seed": np.int64(7),
    }
    settings = Settings(**asked)
    assert (settings.budget, settings.latency_time, settings.recover_time) == ("20", "5s", "1.5s")
    assert (settings.model, settings.seed, type(settings.seed)) == ("models/tiny", 7, int)
    assert Settings(answers=["bad", "good"], prompt="{text} It was").answers == ("bad", "good")


@pytest.mark.parametrize(
    "wrong",
    [
        *({"method": 3}, {"model": None}, {"data": 3}, {"budget": 0.5}, {"budget": True}, {"budget": "few"}),
        *({"limit": 1}, {"limit": "many"}, {"limit": 2.5}, {"limit": True}, {"eval_limit": 0}, {"limit": 10_000_001}),
        *({"goal": "speed=2"}, {"goal": "agreement=95"}, {"goal": "time=20%"}, {"goal": "kv-cache=30%"}, {"goal": 3}),
        *({"min_per_layer": -1}, {"min_per_layer": None}, {"pool_size": 1}, {"poly_degree": 1}, {"seed": -1}),
        *({"pool_size": 129}, {"poly_degree": 11}),
        *({"seed": 2**32}, {"projection": "lda"}, {"sample": "tail"}, {"salience": "max"}, {"device": "tpu"}),
        *({"recover": "magic"}, {"precision": "int8"}, {"report": "train"}, {"representative": 2}),
        *({"latency": "yes"}, {"labels": 1}, {"latency_time": "soon"}, {"latency_time": -1}, {"recover_time": "31d"}),
        *({"label_map": "a=b"}, {"label_map": {"a": 1}}, {"splits": ["a"]}, {"answers": "bad,good"}, {"answers": [1]}),
        *({"prompt": "{text} It was"}, {"answers": ("bad", "good")}),
    ],
    ids=str,
)
def test_anything_invalid_is_an_error_when_the_settings_are_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(CahpError) as refused:
        Settings(**wrong)
    assert "\n" not in str(refused.value)
    with pytest.raises(CahpError):
        replace(Settings(), **wrong)


def test_every_field_is_described_and_an_option_of_prune() -> None:
    assert list(flags("prune")) == list(describe())
    assert all(one.help for one in describe().values())


def test_words_and_pairs_are_read_from_one_line() -> None:
    label_map = describe()["label_map"]
    assert label_map.parse("neg=NEGATIVE, pos = POSITIVE") == {"neg": "NEGATIVE", "pos": "POSITIVE"}
    assert label_map.parse('"business, money=B",0=LABEL_0') == {"business, money": "B", "0": "LABEL_0"}
    assert label_map.parse("") == {}
    assert describe()["answers"].parse('"not bad, really", awful') == ("not bad, really", "awful")
    assert describe()["prompt"].parse("{text}, it was") == "{text}, it was"


@dataclass(frozen=True)
class More(Settings):
    """The settings with more options; nothing else is changed anywhere."""

    dropout: int = option("Choice of heads", 0, "Dropout in per cent.", high=90)
    temperature: float = option("Choice of heads", 1.0, "Temperature of a softmax.", high=10)


@pytest.fixture
def more_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("cahp.run.settings.Settings", More)
    describe.cache_clear()
    yield
    describe.cache_clear()


@pytest.mark.usefixtures("more_settings")
def test_a_new_option_is_one_new_field() -> None:
    more = More(budget="5", dropout=10, temperature=np.float32(2.5))  # type: ignore[arg-type]
    # Validated.
    with pytest.raises(OptionError, match="--dropout 91 is out of range"):
        More(dropout=91)
    with pytest.raises(OptionError, match=r"^--temperature 11\.0 is out of range; it must be in 0\.\.10$"):
        More(temperature=11)
    with pytest.raises(OptionError, match="--temperature cannot be 'hot'"):
        More(temperature="hot")  # type: ignore[arg-type]
    # Written as a command line.
    options = flags("prune")
    assert to_arguments(more, options) == ["--budget", "5", "--dropout", "10", "--temperature", "2.5"]
    # Read from the command line.
    seen: list[dict[str, Any]] = []

    def prune(call: Call) -> None: ...

    taken = command(example="cahp prune")(prune)
    app = typer.Typer()
    taken.add_to(app)
    context = typer.main.get_command(app).make_context("x", ["--dropout", "10", "--temperature", "2.5"])
    seen.append(context.params)
    assert (seen[0]["dropout"], seen[0]["temperature"]) == (10, 2.5)
    # Part of every key.
    assert key_fields(more, without=IN_DIGESTS)["dropout"] == 10
    assert key_fields(more) == asdict(more)
