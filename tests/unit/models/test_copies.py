"""Copies of a model's modules, which share its weights."""

from __future__ import annotations

import copy
from pathlib import Path

import fakes
import pytest
from torch import nn

from cahp import models
from cahp.models.surgery import copy_network


@pytest.mark.parametrize("family", fakes.SAMPLE)
def test_a_copy_has_the_modules_of_a_deep_copy_and_the_same_weights(family: str, tmp_path: Path) -> None:
    model = models.load(str(fakes.save_model(tmp_path / "model", family)), device="cpu")
    before = len(model.network._forward_hooks)
    handle = model.network.register_forward_hook(lambda *_: None)
    copied = copy_network(model).network
    deep = copy.deepcopy(model.network)
    handle.remove()
    pairs = zip(copied.named_modules(), deep.named_modules(), strict=True)
    for (name, module), (other_name, other) in pairs:
        assert (name, type(module)) == (other_name, type(other))
        assert sorted(vars(module)) == sorted(vars(other))
    assert not set(copied.modules()) & set(model.network.modules())
    assert (len(copied._forward_hooks), len(model.network._forward_hooks)) == (before + 1, before)
    own = dict(model.network.named_parameters(remove_duplicate=False))
    shared = dict(copied.named_parameters(remove_duplicate=False))
    assert own.keys() == shared.keys()
    assert all(own[name] is weight for name, weight in shared.items())


def test_what_stands_in_two_places_does_so_in_the_copy(tmp_path: Path) -> None:
    model = models.load(str(fakes.save_model(tmp_path / "model")), device="cpu")
    twice = nn.Linear(2, 2)
    model.network.first, model.network.second, model.network.listed = twice, twice, [twice]
    copied = copy_network(model).network
    assert copied.first is copied.second is copied.listed[0]
    assert copied.first is not twice
