"""A whole ``run.json``, small and made up."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cahp.tasks.answers import Evaluation


def answers(predictions: Sequence[int], labels: Sequence[int], *, classes: Sequence[str] = ("a", "b")) -> Evaluation:
    """An evaluation with these predictions, each with a score of log 3 where the other classes have 0."""
    scores = np.zeros((len(labels), len(classes)), dtype=np.float32)
    scores[np.arange(len(labels)), predictions] = np.log(3)
    return Evaluation(scores, np.asarray(labels, dtype=np.int64), tuple(classes))


def scores(accuracy: float, low: float, high: float, agreement: float | None) -> dict[str, Any]:
    """Metrics of 1,200 texts."""
    return {
        "accuracy": accuracy,
        "macro_f1": 0.8766,
        "loss": 0.5,
        "n": 1200,
        "ci95": [low, high],
        "agreement": agreement,
    }


def outcome_records(metrics: Mapping[str, Any], change: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The outcomes that a file has beside the ``metrics`` of a model, and its ``change`` in accuracy."""

    def entry(value: float, ci95: list[float] | None, unit: str) -> dict[str, Any]:
        return {"value": value, "ci95": ci95, "n": metrics["n"], "unit": unit}

    measured = {
        "accuracy": entry(metrics["accuracy"], metrics["ci95"], "share"),
        "macro_f1": entry(metrics["macro_f1"], None, "share"),
        "nll": entry(metrics["loss"], None, "nats"),
    }
    if metrics["agreement"] is not None:
        measured["agreement"] = entry(metrics["agreement"], None, "share")
    if change is not None:
        measured["accuracy_change"] = entry(change["pp"], change["ci95"], "points")
    return measured


def run_json() -> dict[str, Any]:
    """Everything that the schema ``cahp.run/1`` asks for; two layers of three heads, of which three are kept."""
    split = {"split": "train", "examples": 10, "class_counts": {"bad": 4, "good": 6}, "sha256": "0" * 64}
    cost = {
        "parameters": 22_700_000,
        "flops": 1_040_000_000,
        "latency_ms": {"median": 12.34, "p95": 14.0, "batch": 8, "length": 36, "repeats": 30},
    }
    seconds = ("signatures", "features", "projection", "clustering", "salience", "evaluation", "recovery", "total")
    full = scores(0.953, 0.94, 0.964, None)
    pruned = scores(0.912, 0.895, 0.927, 0.93)
    change = {"pp": -4.1, "ci95": [-5.6, -2.7]}
    # Through text, so that no part is another's too.
    text = json.dumps(
        {
            "schema": "cahp.run/1",
            "model": {"id": "tiny", "revision": None, "family": "bert", "layers": 2, "heads": 3, "sha256": "f" * 64},
            "data": {"id": "films", "select": split, "eval": {**split, "split": "validation"}},
            "settings": {"seed": 42, "method": "complementary"},
            "knee": 3,
            "knee_rule": "polynomial-6",
            "budget": {"requested": None, "attained": 3},
            "kept": {"0": [0, 2], "1": [1]},
            "rescued": [[1, 1]],
            "metrics": {"full": full, "pruned": pruned, "recovered": None},
            "delta": {"pruned": change, "recovered": None},
            "outcomes": {"full": outcome_records(full), "pruned": outcome_records(pruned, change), "recovered": None},
            "refit": {"accepted": True, "reason": "held-out fifth agrees", "examples": 500},
            "cost": {"full": cost, "pruned": cost},
            "latency_ratio": {"median": 0.82, "ci95": [0.8, 0.85]},
            "attention_share": 0.34,
            "timings": {f"{name}_s": None if name == "recovery" else 1.5 for name in seconds},
            "cached": ["signatures"],
            "verified": {"mask_bites": True, "mask_equals_surgery": True},
            "test_opened": 0,
            "versions": {"torch": "2.9"},
            "command": "cahp prune --model tiny --data films",
        }
    )
    whole: dict[str, Any] = json.loads(text)
    return whole
