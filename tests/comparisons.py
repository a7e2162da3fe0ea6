"""Comparisons made by hand: a model of six heads, so that every number can be worked out."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cahp.comparison import SCHEMA, Comparison
from cahp.comparison.document import ComparisonDocument
from cahp.comparison.statistics import Verdict
from cahp.outcomes import OUTCOMES, list_further

LAYERS, HEADS = 2, 3

KEPT = {
    "complementary": {"0": [0], "1": [1, 2]},
    "gradient": {"0": [0, 1], "1": [1]},
    "random": {"0": [2], "1": [0, 1]},
}
_DRAWN = {"random"}


def cell(
    method: str, row: int, kept: dict[str, list[int]], right: NDArray[np.bool_], *, seed: int = 1, **more: Any
) -> dict[str, Any]:
    """A cell as the file holds it: ``row`` is the place of its answers, and ``right`` they are."""
    budget = sum(map(len, kept.values()))
    quality = {
        **{"accuracy": float(right.mean()), "macro_f1": 0.5, "loss": 1.0, "n": len(right), "ci95": [0.0, 1.0]},
        **{"agreement": 0.5, "delta": {"pp": -10.0, "ci95": [-20.0, 0.0]}, "delta_alike": None},
        **dict.fromkeys(name for name in list_further() if OUTCOMES[name].needs != "tokens"),
    }
    return {
        **{"method": method, "setting": {}, "seed": seed, "draw": 0, "noise": seed, "error": None, "kept": kept},
        "budget": {"requested": budget, "attained": budget},
        "recoveries": {"none": {"row": row, "eval": quality, "report": None, "accepted": None}},
        "seconds": {"score": 2.0, "recovery": {}, "evaluation": {"none": 1.0}},
        "price": {"forwards": 30.0, "labels": 10},
        **more,
    }


def failed(method: str, *, seed: int = 1, budget: int = 3) -> dict[str, Any]:
    """A cell whose method failed."""
    made = cell(method, 0, KEPT[method], np.zeros(1, dtype=np.bool_), seed=seed, error="ValueError: no")
    made |= {"kept": None, "budget": {"requested": budget, "attained": None}, "price": None, "recoveries": {}}
    return {**made, "seconds": {"score": None, "recovery": {}, "evaluation": {}}}


def document(cells: list[dict[str, Any]], **options: Any) -> ComparisonDocument:
    """A comparison; the answers of the full model come after those of the cells."""
    return ComparisonDocument.from_json(file(cells, **options))


def file(
    cells: list[dict[str, Any]], *, seeds: tuple[int, ...] = (1,), recoveries: tuple[str, ...] = ("none",), n: int = 8
) -> dict[str, Any]:
    """What ``compare.json`` says, its summary aside."""
    rows = max((of["row"] + 1 for one in cells for of in one["recoveries"].values()), default=0)
    full = cell("full", rows, {"0": [0, 1, 2], "1": [0, 1, 2]}, np.ones(n, dtype=np.bool_))
    sample = {"examples": n, "class_counts": {"bad": n // 2, "good": n - n // 2}, "sha256": "0" * 64}
    sample |= {"cut": 0, "max_length": 512}
    model = {"id": "tiny", "revision": None, "family": "bert", "layers": LAYERS, "heads": HEADS, "sha256": "1" * 64}
    model |= {"group": 1, "files_sha256": None}
    names = dict.fromkeys(one["method"] for one in cells)
    return {
        "schema": SCHEMA,
        "model": model,
        "data": {
            "id": "reviews",
            "classes": ["bad", "good"],
            "select": [{"seed": seed, "split": "train", **sample} for seed in seeds],
            "eval": {"split": "validation", **sample},
            "steer": None,
            "report": None,
        },
        "settings": {"seeds": list(seeds), "recoveries": list(recoveries)},
        "methods": {
            name: {"about": f"Is {name}.", "draws": 20 if name in _DRAWN else 1, "learned": False} for name in names
        },
        "full": [full],
        "estimate": {"cells": 1, "known": 0, "forwards": 1.0, "choosing": 0.0, "forward_ms": 1.0, "minutes": 1.0},
        "timings": {"total_s": 1.0},
        "test_opened": 0,
        "notices": [],
        "versions": {},
        "command": "cahp compare",
        "criticality": None,
        "criticality_texts": None,
        "protocols": None,
        "cells": cells,
    }


def told(right: Any, kl: Any = None) -> dict[str, NDArray[Any]]:
    """The arrays of a part whose answers are ``right (R, n)``: the label is class 0; with their divergences ``kl``."""
    right = np.asarray(right, dtype=np.bool_)
    answers = {"predictions": (~right).astype(np.uint8), "labels": np.zeros(right.shape[1], dtype=np.uint8)}
    return answers if kl is None else {**answers, "kl": np.asarray(kl, dtype=np.float16)}


def made(answers: dict[str, list[NDArray[np.bool_]]]) -> Comparison:
    """A comparison of methods, with the answers of each seed, which keep what ``KEPT`` says."""
    cells, rows = [], []
    for method, of in answers.items():
        for seed, right in enumerate(of, start=1):
            cells.append(cell(method, len(rows), KEPT[method], right, seed=seed))
            rows.append(right)
    n, seeds = len(rows[0]), tuple(range(1, len(next(iter(answers.values()))) + 1))
    right = np.array([*rows, np.ones(n, dtype=np.bool_)])
    return Comparison(document(cells, seeds=seeds, n=n), {"eval": told(right)})


def verdict(
    method: str, budget: int | None, better: str | None, recovery: str = "none", *, budgets: tuple[int, ...] = (4, 6)
) -> Verdict:
    """A test against CAHP, by one point; of areas over ``budgets`` where no budget is given."""
    statistics = {"pp": 1.0, "ci95": (0.5, 1.5), "p": 0.01, "p_holm": 0.02, "n": 100, "seeds": 2}
    given: dict[str, Any] = {"method": method, "budget": budget, "recovery": recovery, **statistics}
    given |= {"split": "validation", "against": "complementary", "tie": better is None, "better": better}
    given |= {"outcome": "accuracy", "unit": "points", "df": 1.0}
    return Verdict(budgets=budgets if budget is None else (budget,), **given)


#: What methods keep of five heads.
MORE = {
    "complementary": {"0": [0, 1], "1": [0, 1, 2]},
    "gradient": {"0": [0, 1, 2], "1": [0, 1]},
    "random": {"0": [0, 2], "1": [0, 1, 2]},
}


def varied(*, n: int = 60, divergences: bool = False) -> Comparison:
    """A comparison at two budgets, with two seeds, as pruned and after refit, with answers by chance."""
    random = np.random.default_rng(0)
    cells: list[dict[str, Any]] = []
    rows: list[NDArray[np.bool_]] = []
    for name in KEPT:
        for kept in (KEPT[name], MORE[name]):
            for seed in (1, 2):
                measured = {}
                for recovery, share in (("none", 0.5), ("refit", 0.7)):
                    rows.append(random.random(n) < share)
                    measured[recovery] = cell(name, len(rows) - 1, kept, rows[-1], seed=seed)["recoveries"]["none"]
                seconds = {"score": 2.0, "recovery": {"refit": 1.5}, "evaluation": {"none": 1.0, "refit": 1.0}}
                cells.append(cell(name, 0, kept, rows[-1], seed=seed, recoveries=measured, seconds=seconds))
    right = np.array([*rows, np.ones(n, dtype=np.bool_)])
    kl = random.gamma(1.0, 0.2, right.shape) if divergences else None
    found = document(cells, seeds=(1, 2), recoveries=("none", "refit"), n=n)
    return Comparison(found, {"eval": told(right, kl)})
