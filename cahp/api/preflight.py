"""Facts about a model before it is used: whether it is supported, its heads, and the memory and time of a run."""

from __future__ import annotations

import os
import timeit
from dataclasses import asdict, dataclass
from functools import cache
from time import thread_time
from typing import Any

import numpy as np

from cahp import models
from cahp.exports import formats
from cahp.features import measures
from cahp.models.cards import ModelCard
from cahp.models.costs import CONTEXTS
from cahp.models.identity import longest_text
from cahp.recoveries import NONE, QUICK, RECOVERIES, Recovery
from cahp.run.bench import Bench
from cahp.run.settings import Settings
from cahp.tasks.texts import COPY_TOKENS
from cahp.values import CahpError, HeadMask

#: Texts of the default run: calibration, and evaluation of the full and the pruned model.
_TEXTS = 2000 + 2 * 1000
_TOKENS = 32
#: Padded tokens of a batch on a processor; a longer text is a batch of its own.
_BATCH_TOKENS = 2048
#: Factor of the gradients through a quarter of the calibration texts.
_GRADIENTS = 1.25
#: Texts of the timing: about 70 passes each of the full and the pruned model, of 8 texts.
_TIMED_TEXTS = 2 * 70 * 8
#: Tokens of the timing of a causal language model: 8 passes each, of the shortest context.
_GENERATED = 2 * 8 * min(CONTEXTS)
#: Passes of a language model's calibration tokens to choose its heads, with gradients, and of its head; passes of its
#: head for each evaluation token before anything is pruned, of which three prepare the comparison of other models.
_CHOOSING = 2.0
_CHOOSING_HEAD = 4.0
_COMPARING_HEAD = 4.0
#: Tokens that take as long as a step of generation, which reads all weights for one token.
STEP_TOKENS = 16
#: Tokens of the self-test: a pass of some short texts, and more for each head of a layer.
_PROOF_TOKENS = 300
_PROOF_TOKENS_PER_HEAD = 12
#: Seconds to start, to read the data, and to project and cluster the heads; bytes of weights that are read, hashed and
#: converted per second.
_START_S = 8.0
_READ_SPEED = 0.3e9
#: Bytes of Python with its libraries, and of the activations of a batch.
_LIBRARIES = 450 << 20
_ACTIVATIONS = 300 << 20
_SIDE = 768


def builtins() -> list[dict[str, Any]]:
    """The built-in models, and whether the packages they need are installed."""
    entries = []
    for name, builtin in models.BUILTINS.items():
        try:
            models.check_builtin(name)
            available = True
        except CahpError:
            available = False
        entries.append({"name": name, "description": builtin.description, "data": builtin.data, "available": available})
    return entries


def preflight(card: ModelCard) -> dict[str, Any]:
    """Facts about the model of a card without reading its weights, and the expected time of the default run here.

    For a language model with a prompt, they include a prompted example and the tokens of its answers.

    Raises:
        ModelError: If the model's configuration describes no network.
        OptionError: If the prompt does not fit the model.
    """
    notes = [*card.notes]
    prompt = None
    reading = models.preview_prompt(card)
    if reading is not None:
        prompt = asdict(reading)
        if reading.notice:
            notes.append(reading.notice)
    if card.no_refit:
        notes.append(f"no refit: {card.no_refit}")
    if card.no_onnx:
        notes.append(f"no ONNX export: {card.no_onnx}")
    size = (card.details or {}).get("bytes")
    memory = None
    if size is not None:
        memory = _memory(card, size)
    expected_refit = None
    if card.task.predicts_often:
        expected_refit = default_seconds(card, recover=QUICK.name)
    limit: int | None = None
    expected_longest: float | None = None
    if card.task.items_are_texts:
        limit = longest_text(card)
        expected_longest = default_seconds(card, length=limit)
    return {
        "id": card.id,
        "revision": card.revision,
        "family": card.family,
        "layers": card.layers,
        "heads": card.heads,
        "heads_per_group": card.group,
        "labels": list(card.labels),
        "language": card.language,
        "prompt": prompt,
        "parameters": (card.details or {}).get("parameters"),
        "types": (card.details or {}).get("types"),
        "kv_cache": card.count_cached_bytes(_kept(card), 1) or None,
        "attention_weights": card.attention_weights,
        "memory_bytes": memory,
        "max_length": limit,
        "expected_s": default_seconds(card),
        "expected_longest_s": expected_longest,
        "expected_refit_s": expected_refit,
        "pruned_before": card.kept is not None,
        "notes": notes,
        "exports": [form.key for form in formats.model_forms() if formats.find_bar(form, card) is None],
        "to_fetch_bytes": (card.details or {}).get("missing", 0),
        "sha256": card.sha256 or None,
    }


@dataclass(frozen=True)
class Precheck:
    """A line of the check before a run: ``words`` tell what is possible, or what is missing if it is not ``passed``."""

    passed: bool
    words: str


def check_run(bench: Bench) -> tuple[Precheck, Precheck, Precheck]:
    """Check what a run of a model on its data can measure: masks, classes or labels, and a refit; reads no weights."""
    card = bench.card
    masks = Precheck(True, f"Masks: each {card.unit} can be switched off. They are verified when the model is loaded.")
    if card.task.predicts_often:
        labels = Precheck(True, "Labels: none are needed, because the next token is predicted.")
    elif bench.dataset.labelled:
        labels = Precheck(True, f"Labels: they match the {len(card.labels)} classes of the model.")
    else:
        labels = Precheck(False, f"No labels: {card.words.without_labels}.")
    refit = Precheck(True, "Refit: possible, in closed form and without training.")
    reason = bench.recoveries.no_refit
    if reason:
        refit = Precheck(False, f"No refit: {reason}. All figures are those as pruned.")
    return masks, labels, refit


def _kept(card: ModelCard) -> HeadMask:
    """The heads that the model has: all, unless it was pruned before."""
    kept = card.kept or [range(card.heads)] * card.layers
    flat = [layer * card.heads + head for layer, heads in enumerate(kept) for head in heads]
    return HeadMask.of(flat, card.layers, card.heads)


def _memory(card: ModelCard, size: int) -> int:
    # The file of weights is mapped while they are converted to float32. The statistics of each head and class are mean
    # and variance in float64 of 32 x 32 cells, twice while they are saved.
    weights = 4 * ((card.details or {}).get("parameters") or size // 4)
    statistics = card.layers * card.heads * max(2, len(card.labels)) * 32 * 32 * 8 * 4
    needed = size + weights + _LIBRARIES + _ACTIVATIONS + statistics
    if not card.task.items_are_texts:
        return needed
    # A batch of the longest texts has maps of each head and text, and as many scores before they are normalised.
    return needed + 2 * 4 * card.heads * card.group * _BATCH_TOKENS * longest_text(card)


def estimate_seconds(card: ModelCard, *, tokens: float) -> float:
    """Seconds of forward passes of ``tokens`` tokens on this machine.

    Operations are counted from the configuration; the speed is that of a matrix product.

    Raises:
        ModelError: If the configuration describes no network.
    """
    return tokens * _operations(card)[0] * _delay() / _speed()


def timed_tokens(card: ModelCard, length: float) -> float:
    """Tokens of the timing of the full and the pruned model on texts of ``length`` tokens."""
    if card.saves == "cache":
        return float(_GENERATED)
    return _TIMED_TEXTS * length


def _operations(card: ModelCard) -> tuple[float, float]:
    """Floating-point operations per token of the layers, and of the head of a language model."""
    if card.id in models.BUILTINS and card.family == "bert":
        # Exact for BERT, and pages need it before torch is loaded.
        return 2.0 * 12 * card.layers * card.hidden**2, 0.0
    if not card.folder:
        # A bundled language model, whose files need not be there; its head has the weights of its embeddings.
        return 2.0 * (card.details or {})["parameters"], 0.0

    from cahp.models import sketch

    return sketch.operations(card), sketch.head_operations(card)


def default_seconds(card: ModelCard, *, recover: str = NONE.name, length: int = _TOKENS) -> float:
    """Seconds of the default run on this machine, from the start of the command to its end.

    ``recover`` counts for models that are measured on windows of tokens, ``length``, the tokens of a text, for others.

    Raises:
        ModelError: If the configuration describes no network.
    """
    if card.task.predicts_often:
        return _window_seconds(card, RECOVERIES[recover])
    without_gradients = timed_tokens(card, _TOKENS) + _PROOF_TOKENS + _PROOF_TOKENS_PER_HEAD * (card.heads + 1)
    reading = 4 * ((card.details or {}).get("parameters") or 0) / _READ_SPEED
    return _START_S + reading + estimate_seconds(card, tokens=_GRADIENTS * _TEXTS * length + without_gradients)


def _window_seconds(card: ModelCard, recovery: Recovery) -> float:
    """Seconds of the default run of a model that is measured on the next tokens of windows."""
    calibration = Settings.tokens
    window = Settings.window
    evaluation = Settings.eval_tokens + COPY_TOKENS
    pruned = 1 if recovery is NONE else 2
    body = _CHOOSING * calibration + (1 + pruned) * evaluation
    head = _CHOOSING_HEAD * calibration + (_COMPARING_HEAD + pruned) * evaluation
    body += window * recovery.passes(calibration // window, can_refit=card.no_refit is None)
    # The proof of the mask, the timing, and the text that each model continues.
    body += 2 * window + _GENERATED + _PROOF_TOKENS + _PROOF_TOKENS_PER_HEAD * (card.heads + 1)
    for one in measures():
        body += (1 + pruned) * (one.reads + STEP_TOKENS * one.generated)
        head += (1 + pruned) * one.reads
    reading = 4 * ((card.details or {}).get("parameters") or 0) / _READ_SPEED
    of_layers, of_head = _operations(card)
    return _START_S + reading + (body * of_layers + head * of_head) * _delay() / _speed()


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
