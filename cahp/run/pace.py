"""The pace at which a model reads on this machine: measured when it is evaluated, and estimated before that."""

from __future__ import annotations

import os
import timeit
from functools import cache
from time import thread_time

import numpy as np

from cahp import models
from cahp.models.cards import ModelCard
from cahp.store import Store, key

#: Fewer tokens tell no pace.
_FEWEST_TOKENS = 1000
#: Rows and columns of the multiplied matrices.
_SIDE = 768
#: Seconds per token by model, as kept in the store (None: not measured here); pages estimate often.
_paces: dict[str, float | None] = {}


def record_pace(store: Store, card: ModelCard, *, tokens: float, seconds: float) -> None:
    """Keep the pace at which a model has just read ``tokens`` in ``seconds``."""
    if tokens >= _FEWEST_TOKENS and seconds > 0 and card.sha256:
        pace = _paces[card.sha256] = seconds / tokens / _delay()
        store.save(key("pace", 1, card.sha256), meta={"seconds_per_token": pace})


def estimate_seconds(card: ModelCard, *, tokens: float) -> float:
    """Estimate the seconds of forward passes of ``tokens`` tokens on this machine.

    Where the model was not evaluated here, operations are counted from the configuration, and the speed is that of a
    matrix product.

    Raises:
        ModelError: If the configuration describes no network.
    """
    if card.sha256 and card.sha256 not in _paces:
        name = key("pace", 1, card.sha256)
        _paces[card.sha256] = Store().read(name, lambda entry: float(entry.meta["seconds_per_token"]))
    pace = _paces.get(card.sha256)
    if pace is None:
        pace = _operations(card) / _speed()
    return tokens * pace * _delay()


def _operations(card: ModelCard) -> float:
    """Count the floating-point operations per token."""
    if card.id in models.BUILTINS and card.family == "bert":
        # Exact for BERT, and pages need it before torch is loaded.
        return 2.0 * 12 * card.layers * card.hidden**2
    if not card.folder:
        # A bundled language model, whose files need not be there; its head has the weights of its embeddings.
        return 2.0 * float((card.details or {})["parameters"])

    from cahp.models import sketch

    if card.task.predicts_often:
        return sketch.operations(card) + sketch.head_operations(card)
    return sketch.operations(card)


def _delay() -> float:
    """How much longer work takes beside the other work on this machine, from its load in the last minute.

    With ``load`` busy threads on all cores, ours gets ``cores / (load + 1)`` of one while the load lasts, and all of it
    once the load ends: the geometric mean is off by no more than a factor of 2 up to a load of 4 per core.
    """
    if not hasattr(os, "getloadavg"):
        return 1.0
    return float(max(1.0, (os.getloadavg()[0] + 1) / (os.cpu_count() or 1)) ** 0.5)


@cache
def _speed() -> float:
    """Floating-point operations per second of a float32 matrix product, measured once per process in 0.1 s.

    One thread is measured, by the time that it computes: other work on the machine does not change the estimate.
    """
    import threadpoolctl

    matrix = np.ones((_SIDE, _SIDE), dtype=np.float32)
    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    threads = max((pool["num_threads"] for pool in pools), default=1)
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        matrix @ matrix
        best = min(timeit.repeat(lambda: matrix @ matrix, timer=thread_time, repeat=3, number=1))
    # Attention, normalisation and activations are slower: 0.65 of that speed was measured.
    return 0.65 * 2 * _SIDE**3 * threads / best
