"""A field of ``Settings`` is the one description of an option: its type, bounds, flag, keyword and cache keys."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cahp.run.settings import Settings, describe, flags, key_fields
from cahp.values import CahpError


def test_numbers_and_paths_stand_for_texts_where_that_is_clear() -> None:
    asked = {"budget": 20, "latency_time": 5, "recover_time": 1.5, "model": Path("models/tiny"), "seed": np.int64(7)}
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


def test_every_field_is_part_of_every_key() -> None:
    assert key_fields(Settings(seed=7)) == asdict(Settings(seed=7))
