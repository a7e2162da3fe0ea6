"""What to expect of a model before it is used: whether it is supported, its heads, memory and time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import cache
from time import perf_counter
from typing import Any

import numpy as np

from cahp import models
from cahp.cards import ModelCard, Prompt
from cahp.export import formats
from cahp.values import CahpError
from cahp.words import duration, size_of

#: The default sample: calibration texts, and evaluation texts for the full and the pruned model.
_TEXTS = 2000 + 2 * 1000
_TOKENS = 32
#: What gradients through a quarter of the calibration texts add to the forward passes.
_GRADIENTS = 1.25
#: What is timed at last: about 70 passes, of the full and the pruned model in turn, of 8 long texts.
_TIMED = 70 * 8 * 2 * _TOKENS
#: The self-test: a pass of some short texts, and one of so many tokens for each head of a layer.
_PROVEN, _PROVEN_A_HEAD = 300, 12
#: To start, to read the data, and to project and cluster the heads; and the bytes of weights that are read, hashed and
#: converted in a second.
_START_S, _READ = 8.0, 0.3e9
#: Python with its libraries, and the activations of a batch, which have a largest size.
_LIBRARIES, _ACTIVATIONS = 450 << 20, 300 << 20
_SIDE = 768


def builtins() -> list[dict[str, Any]]:
    """The built-in models, and whether the packages they need are installed."""
    found = []
    for name, builtin in models.BUILTINS.items():
        try:
            models.identify(name)
            available = True
        except CahpError:
            available = False
        found.append({"name": name, "description": builtin.description, "data": builtin.data, "available": available})
    return found


def look(name: str, *, prompt: Prompt | None = None) -> dict[str, Any]:
    """What can be said of a model without reading its weights, and how long the default run would take here.

    Of a language model that is asked by a ``prompt`` also how an example reads, and by which tokens it answers.

    Raises:
        ModelError: If the model is not supported, with the reason.
        OptionError: If it is not to be asked by that prompt.
    """
    return looked(models.preview(name, prompt=prompt))


def looked(card: ModelCard) -> dict[str, Any]:
    """``look``, of a card."""
    reading = models.reading(card)
    size = (card.details or {}).get("bytes")
    return {
        "id": card.id,
        "revision": card.revision,
        "family": card.family,
        "layers": card.layers,
        "heads": card.heads,
        "heads_per_group": card.group,
        "labels": list(card.labels),
        "language": card.language,
        "prompt": None if reading is None else asdict(reading),
        "parameters": (card.details or {}).get("parameters"),
        "memory_bytes": None if size is None else _memory(card, size),
        "expected_s": default_seconds(card),
        "pruned_before": card.kept is not None,
        "notes": [
            *card.notes,
            *([reading.notice] if reading and reading.notice else []),
            *([f"no refit: {card.no_refit}"] if card.no_refit else []),
            *([f"no ONNX export: {card.no_onnx}"] if card.no_onnx else []),
        ],
        "exports": [form.key for form in formats.model_forms() if formats.barred(form, card) is None],
        "to_fetch_bytes": (card.details or {}).get("missing", 0),
        "sha256": card.sha256 or None,
    }


def _memory(card: ModelCard, size: int) -> int:
    # The file of weights is mapped while they are converted to float32; the statistics of every head and class (mean
    # and spread, float64, 32 x 32 cells, and as much again while they are saved).
    weights = 4 * ((card.details or {}).get("parameters") or size // 4)
    statistics = card.layers * card.heads * max(2, len(card.labels)) * 32 * 32 * 8 * 4
    return size + weights + _LIBRARIES + _ACTIVATIONS + statistics


def expected_seconds(card: ModelCard, *, tokens: int = _TEXTS * _TOKENS) -> float:
    """Seconds that forward passes of so many tokens take on this machine, and the gradients of a run of them.

    Operations are counted on the configuration; the speed is that of a matrix product.

    Raises:
        ModelError: If the configuration describes no network.
    """
    return _GRADIENTS * tokens * _operations(card) / _speed()


def default_seconds(card: ModelCard) -> float:
    """Seconds of the default run on this machine, from the start of its command to its end.

    Raises:
        ModelError: If the configuration describes no network.
    """
    beside = _TIMED + _PROVEN + _PROVEN_A_HEAD * (card.heads + 1)
    reading = 4 * ((card.details or {}).get("parameters") or 0) / _READ
    return _START_S + reading + expected_seconds(card) + beside * _operations(card) / _speed()


def seconds_of(operations: float) -> float:
    """Seconds that so many operations of forward passes take on this machine."""
    return operations / _speed()


def _operations(card: ModelCard) -> float:
    if card.id in models.BUILTINS:
        # Of a BERT this is exact, and pages ask before anything has loaded torch.
        return float(2 * 12 * card.layers * card.hidden**2)
    from cahp.models.counting import operations

    return operations(card)


@cache
def _speed() -> float:
    """Floating-point operations a second of a float32 matrix product, measured in some hundredths of a second.

    Measured once a process: a machine does not become another one, and every page of the explorer asks.
    """
    matrix = np.ones((_SIDE, _SIDE), dtype=np.float32)
    matrix @ matrix
    best = min(_seconds(lambda: matrix @ matrix) for _ in range(3))
    # Attention, normalisation and activations run below that speed: 0.65 of it was measured.
    return 0.65 * 2 * _SIDE**3 / best


def _seconds(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def words(found: Mapping[str, Any]) -> Iterator[str]:
    """A preflight as a person reads it."""
    yield f"{found['id']}: supported ({found['family']})"
    yield f"  heads     {found['layers']} layers x {found['heads']} = {found['layers'] * found['heads']}"
    if found["prompt"]:
        tokens = [f"{one['word']} (token {one['token']})" for one in found["prompt"]["answers"]]
        yield f"  answers   {', '.join(tokens or found['labels'])}"
        yield f"  reads     {found['prompt']['prompted']}"
    elif found["labels"]:
        yield f"  classes   {', '.join(found['labels'])}"
    elif found["language"]:
        yield f"  classes   none: a {found['language']} language model; let it answer by --prompt and --answers"
    else:
        yield "  classes   none: a plain encoder; train a classifier on it with `cahp fit`"
    if found["parameters"]:
        yield f"  weights   {found['parameters'] / 1e6:.1f} M"
    if found["to_fetch_bytes"]:
        yield f"  to fetch  {size_of(found['to_fetch_bytes'])} from the hub, at commit {found['revision'][:12]}"
    if found["memory_bytes"]:
        yield f"  memory    about {found['memory_bytes'] / 2**30:.1f} GiB for the default run"
    if found["expected_s"]:
        yield f"  time      about {duration(found['expected_s'])} for the default run on this machine's processor"
    if not found["pruned_before"]:
        yield f"  exports   {', '.join(found['exports'])}"
    else:
        yield "  pruned    before: it can be evaluated, and its heads cannot be chosen again"
    for note in found["notes"]:
        yield f"  note: {note}"
