"""Results <-> files, with what is needed to make them again.

``run.json`` follows the schema ``cahp.run/1``, ``head_mask.json`` the schema ``cahp.mask/1``. What was not measured is
null, never 0.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cahp.files import write_whole
from cahp.values import CahpError, HeadMask, MaskError

RUN_SCHEMA = "cahp.run/1"
MASK_SCHEMA = "cahp.mask/1"

_SPLIT = "split examples class_counts sha256"
_SCORES = "accuracy macro_f1 loss n ci95 agreement"
_CHANGE = "pp ci95"
_COST = "parameters flops latency_ms"
_LATENCY = "median p95 batch length repeats"

#: Every object of ``run.json`` and the keys it must have, in the order in which they are written. An object that is
#: null was not measured and has none.
_RUN_KEYS: Mapping[str, str] = {
    "": (
        "schema model data settings knee knee_rule budget kept rescued metrics delta refit cost latency_ratio "
        "attention_share timings cached verified test_opened versions command"
    ),
    "model": "id revision family layers heads sha256",
    "data": "id select eval",
    "data.select": _SPLIT,
    "data.eval": _SPLIT,
    "settings": "",
    "budget": "requested attained",
    "kept": "",
    "metrics": "full pruned recovered",
    "metrics.full": _SCORES,
    "metrics.pruned": _SCORES,
    "metrics.recovered": _SCORES,
    "delta": "pruned recovered",
    "delta.pruned": _CHANGE,
    "delta.recovered": _CHANGE,
    "refit": "accepted reason examples",
    "cost": "full pruned",
    "cost.full": _COST,
    "cost.full.latency_ms": _LATENCY,
    "cost.pruned": _COST,
    "cost.pruned.latency_ms": _LATENCY,
    "latency_ratio": "median ci95",
    "timings": (
        "signatures_s features_s projection_s clustering_s salience_s evaluation_s recovery_s total_s"
    ),
    "verified": "mask_bites mask_equals_surgery",
    "versions": "",
}


def write_run(
    folder: Path,
    *,
    run: Mapping[str, Any],
    mask: HeadMask,
    arrays: Mapping[str, NDArray[Any]],
    model_id: str,
    method: str,
    metrics: Mapping[str, Any],
) -> None:
    """Write ``run.json``, ``head_mask.json`` and ``arrays.npz`` into ``folder``: all three or none.

    Files of these names are replaced, others are left alone. The mask's budget is the run's.

    Raises:
        CahpError: If the folder cannot be written to, or ``run`` lacks a key of its schema.
        ValueError: If ``run`` says that other heads were kept than ``mask``, or an array holds Python objects.
    """
    validate_run(run)
    kept = {str(layer): heads for layer, heads in enumerate(mask.by_layer)}
    if run["kept"] != kept:
        raise ValueError(f"the run says {run['kept']} were kept, the mask {kept}")
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise ValueError(f"the array {name!r} holds Python objects")
    of_mask = mask_to_json(mask, model=model_id, method=method, budget=run["budget"], metrics=metrics)
    contents = {
        "run.json": describe_json(_in_schema_order(run)).encode(),
        "head_mask.json": describe_json(of_mask).encode(),
        "arrays.npz": lambda file: np.savez(file, **arrays),
    }
    try:
        write_whole(folder, contents)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CahpError(f"Cannot write to {folder} ({reason}); name another folder with --out.") from error
