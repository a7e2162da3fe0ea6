"""Facts about a model before it is used: whether it is supported, its heads, and the memory and time of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cahp import models
from cahp.exports import formats
from cahp.features import measures
from cahp.models.cards import CONTEXTS, ModelCard
from cahp.models.identity import longest_text
from cahp.recoveries import NONE, QUICK, RECOVERIES
from cahp.run.bench import Bench
from cahp.run.measurements import estimate_seconds
from cahp.run.settings import Settings
from cahp.tasks.texts import COPY_TOKENS
from cahp.values import CahpError, HeadMask, Input

#: Tokens of a text of the default run, where none were read.
_TOKENS = 32
#: Padded tokens of a batch on a processor; a longer text is a batch of its own.
_BATCH_TOKENS = 2048
#: Texts of the timing: about 70 passes each of the full and the pruned model, of 8 texts.
_TIMED_TEXTS = 2 * 70 * 8
#: Tokens of the timing of a causal language model: 8 passes each, of the shortest context.
_TIMED_TOKENS = 2 * 8 * min(CONTEXTS)
#: Tokens that take as long as a step of generation, which reads all weights for one token.
STEP_TOKENS = 16
#: Seconds of importing PyTorch and verifying a model, and bytes of weights that are converted and read in a second.
_FIRST_S = 4.0
_BYTES_PER_S = 3e7
#: Seconds of projecting and clustering the heads, and of clustering unstructured data beside them (4 to 7 by machine).
_CLUSTERING_S = 1.5
_UNSTRUCTURED_S = 5.5
#: Bytes of Python with its libraries, and of the activations of a batch.
_LIBRARIES = 450 << 20
_ACTIVATIONS = 300 << 20


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


def loading_seconds(card: ModelCard) -> float:
    """Estimate the seconds until a model is in memory and verified."""
    return _FIRST_S + int((card.details or {}).get("bytes") or 0) / _BYTES_PER_S


def recovery_seconds(card: ModelCard, settings: Settings, recover: str, *, tokens: float, texts: int) -> float:
    """Estimate the seconds of a recovery on calibration texts with so many ``tokens``."""
    recovery = RECOVERIES[recover]
    passes = recovery.stages(texts, can_refit=not card.no_refit)
    seconds = {stage: estimate_seconds(card, tokens=count / texts * tokens) for stage, count in passes.items()}
    if recovery.timed:
        # Its last stage is the training, which the limit is for.
        last = list(seconds)[-1]
        seconds[last] = min(settings.recover_seconds, seconds[last])
    return sum(seconds.values())


def run_seconds(
    card: ModelCard, settings: Settings, *, calibration: float, evaluation: float, texts: int, length: float
) -> float:
    """Estimate the seconds of a run of a loaded model, without what features measure in it.

    ``calibration`` and ``evaluation`` are the tokens of the texts, of which ``texts`` calibrate, and ``length`` are
    those of a timed text.
    """
    tokens = card.task.choosing_passes * calibration + count_models(settings.recover) * evaluation
    if settings.latency and card.saves == "cache":
        tokens += _TIMED_TOKENS
    elif settings.latency:
        tokens += _TIMED_TEXTS * length
    seconds = _CLUSTERING_S + estimate_seconds(card, tokens=tokens)
    if settings.budget == "auto" and settings.goal is None:
        seconds += _UNSTRUCTURED_S
    return seconds + recovery_seconds(card, settings, settings.recover, tokens=calibration, texts=texts)


def count_models(recover: str) -> int:
    """Return how many models are measured: the full one, the pruned one, and that after a recovery."""
    if recover == NONE.name:
        return 2
    return 3


def default_seconds(card: ModelCard, *, recover: str = NONE.name, length: int = _TOKENS) -> float:
    """Estimate the seconds of the default run on this machine, with loading the model.

    ``recover`` counts for models that are measured on windows of tokens, ``length``, the tokens of a text, for others.

    Raises:
        ModelError: If the configuration describes no network.
    """
    if not card.task.predicts_often:
        sizes = {"calibration": 2000 * length, "evaluation": 1000 * length, "texts": 2000}
        return loading_seconds(card) + run_seconds(card, Settings(), **sizes, length=_TOKENS)
    settings = Settings(recover=recover)
    tokens = sum(one.reads + STEP_TOKENS * one.generated for one in measures())
    return (
        loading_seconds(card)
        + estimate_seconds(card, tokens=count_models(recover) * tokens)
        + run_seconds(
            card,
            settings,
            calibration=settings.tokens,
            evaluation=settings.eval_tokens + COPY_TOKENS,
            texts=settings.tokens // settings.window,
            length=settings.window,
        )
    )


def describe_lengths(inputs: Sequence[Input], card: ModelCard | None = None) -> dict[str, Any]:
    """Describe the lengths of texts or pairs, in words, or in the tokens of a model.

    With a model, ``cut`` texts are longer than the ``max_length`` tokens that it reads of each (None: windows of
    tokens, which are not cut, or words).

    Raises:
        ModelError: If the tokenizer of the model cannot be used.
    """
    unit = "words"
    lengths = [_count_words(one) for one in inputs]
    reads: int | None = None
    cut: int | None = None
    if card is not None:
        unit = "tokens"
        lengths = models.count_tokens(card, inputs)
    if card is not None and card.task.items_are_texts:
        reads = longest_text(card)
        cut = int(np.count_nonzero(np.array(lengths) > reads))
    # A split may have no text.
    median, most = np.percentile(lengths or [0], [50, 95])
    longest = max(lengths, default=0)
    found = {"unit": unit, "median": int(median), "p95": int(most), "longest": longest}
    return {**found, "max_length": reads, "cut": cut}


def _count_words(one: Input) -> int:
    if isinstance(one, str):
        return len(one.split())
    return sum(len(part.split()) for part in one)
