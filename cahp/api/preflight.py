"""Facts about a model before it is used: whether it is supported, its heads, and the memory and time of a run."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from cahp import models
from cahp.exports import formats
from cahp.features import measures
from cahp.models.cards import ModelCard
from cahp.models.identity import MAX_LENGTH, longest_text
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.bench import Bench
from cahp.run.measurements import estimate_seconds
from cahp.run.settings import Settings, parse_duration, recovery_growth
from cahp.values import CahpError, HeadMask, Input, JsonObject

#: Padded tokens of a batch on a processor; a longer text is a batch of its own.
_BATCH_TOKENS = 2048
#: Tokens that take as long as a step of generation, which reads all weights for one token.
STEP_TOKENS = 16
#: Seconds of importing PyTorch and verifying a model (1 to 4 by machine), and bytes of weights that are converted and
#: read in a second.
_FIRST_S = 2.5
_BYTES_PER_S = 3e7
#: Seconds of projecting and clustering the heads, and of clustering unstructured data beside them (3 to 7 by machine).
_CLUSTERING_S = 1.5
_UNSTRUCTURED_S = 5.0
#: Bytes of Python with its libraries, and of the activations of a batch.
_LIBRARIES = 450 << 20
_ACTIVATIONS = 300 << 20


def builtins() -> list[JsonObject]:
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


def preflight(card: ModelCard) -> JsonObject:
    """Facts about the model of a card without reading its weights, and the expected time of the default run here.

    For a language model with a prompt, they include a prompted example and the tokens of its answers.

    Raises:
        ModelError: If the model's configuration describes no network.
        OptionError: If the prompt does not fit the model.
    """
    details = card.details
    notes = [*card.notes]
    prompt = None
    reading = models.preview_prompt(card)
    if reading is not None:
        prompt = asdict(reading)
        notes += filter(None, [reading.notice])
    for what, reason in (("refit", card.no_refit), ("ONNX export", card.no_onnx)):
        if reason:
            notes.append(f"no {what}: {reason}")
    kept = card.full_mask
    if card.kept is not None:
        flat = [layer * card.heads + head for layer, heads in enumerate(card.kept) for head in heads]
        kept = HeadMask.of(flat, card.layers, card.heads)
    memory = None
    if "bytes" in details:
        memory = _memory(card, details["bytes"])
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
        "parameters": details.get("parameters"),
        "types": details.get("types"),
        "cached_bytes": card.count_cached_bytes(kept, 1) or None,
        "attention_weights": card.attention_weights,
        "memory_bytes": memory,
        "max_length": longest_text(card),
        "expected_s": default_seconds(card),
        "pruned_before": card.kept is not None,
        "notes": notes,
        "exports": [form.key for form in formats.model_forms() if formats.find_bar(form, card) is None],
        "to_fetch_bytes": details.get("missing", 0),
        "sha256": card.sha256 or None,
    }


def check_run(bench: Bench) -> list[str]:
    """Say what a run of a model on its data measures: masks, classes or labels, and a refit; reads no weights."""
    card = bench.card
    labels = f"No labels: {card.words.without_labels}."
    if bench.dataset.labelled:
        labels = f"Labels: they match the {len(card.labels)} classes of the model."
    refit = "Refit: possible, in closed form and without training."
    if bench.recoveries.no_refit:
        refit = f"No refit: {bench.recoveries.no_refit}. All figures are those as pruned."
    masks = f"Masks: each {card.unit} can be switched off. They are verified when the model is loaded."
    return [masks, labels, refit]


def _memory(card: ModelCard, size: int) -> int:
    # The file of weights is mapped while they are converted to float32. The statistics of each head and class are mean
    # and variance in float64 of 32 x 32 cells, twice while they are saved.
    weights = 4 * (card.details.get("parameters") or size // 4)
    statistics = card.total * max(2, len(card.labels)) * 32 * 32 * 8 * 4
    # A batch of the longest texts has maps of each head and text, and as many scores before they are normalised.
    longest = longest_text(card) or MAX_LENGTH
    maps = 2 * 4 * card.heads * card.group * _BATCH_TOKENS * longest
    return size + weights + _LIBRARIES + _ACTIVATIONS + statistics + maps


def loading_seconds(card: ModelCard) -> float:
    """Estimate the seconds until a model is in memory and verified."""
    return _FIRST_S + int(card.details.get("bytes") or 0) / _BYTES_PER_S


def plan_recovery(card: ModelCard, settings: Settings, recover: str, *, tokens: float, texts: int) -> dict[str, float]:
    """Estimate the seconds of each stage of a recovery where ``texts`` with so many ``tokens`` choose the heads."""
    recovery = RECOVERIES[recover]
    passes = recovery.stages(texts, growth=recovery_growth(settings, card), can_refit=not card.no_refit)
    stages = {name: estimate_seconds(card, tokens=count / texts * tokens) for name, count in passes.items()}
    if recovery.timed:
        # Its last stage is the training, which the limit is for.
        training = list(stages)[-1]
        stages[training] = min(settings.recover_seconds, stages[training])
    return stages


def plan_run(
    card: ModelCard, settings: Settings, *, calibration: float, evaluation: float, texts: int
) -> dict[str, float]:
    """Estimate the seconds of each stage of a run of a loaded model, in their order.

    ``calibration`` and ``evaluation`` are the tokens of the texts, of which ``texts`` calibrate.
    """
    # Signatures are collected after salience, in the same time.
    stages = {"salience": estimate_seconds(card, tokens=card.task.choosing_passes * calibration)}
    stages["projection"] = _CLUSTERING_S
    stages |= plan_recovery(card, settings, settings.recover, tokens=calibration, texts=texts)
    if settings.latency:
        stages["latency"] = parse_duration(settings.latency_time, "--latency-time")
    stages["evaluation"] = estimate_seconds(card, tokens=count_models(settings.recover) * evaluation)
    if settings.budget == "auto" and settings.goal is None:
        stages["unstructured"] = _UNSTRUCTURED_S
    return stages


def count_models(recover: str) -> int:
    """Return how many models are measured: the full one, the pruned one, and that after a recovery."""
    if recover == NONE.name:
        return 2
    return 3


def default_seconds(card: ModelCard) -> float:
    """Estimate the seconds of the default run on this machine, with loading the model.

    Raises:
        ModelError: If the configuration describes no network.
    """
    calibration, evaluation, texts = card.task.default_run
    measured = sum(one.reads + STEP_TOKENS * one.generated for one in measures())
    stages = plan_run(card, Settings(), calibration=calibration, evaluation=evaluation + measured, texts=texts)
    return loading_seconds(card) + sum(stages.values())


def describe_lengths(inputs: Sequence[Input], card: ModelCard | None) -> JsonObject:
    """Describe the lengths of texts or pairs, in words, or in the tokens of a model.

    With a model, ``cut`` texts are longer than the ``max_length`` tokens that it reads of each (None: windows of
    tokens, which are not cut, or words).

    Raises:
        ModelError: If the tokenizer of the model cannot be used.
    """
    if card is None:
        unit = "words"
        lengths = [len(" ".join([one] if isinstance(one, str) else one).split()) for one in inputs]
        reads = None
    else:
        unit = "tokens"
        lengths = models.count_tokens(card, inputs)
        reads = longest_text(card)
    cut = None
    if reads is not None:
        cut = sum(length > reads for length in lengths)
    # A split may have no text.
    median, most = np.percentile(lengths or [0], [50, 95])
    longest = max(lengths, default=0)
    described = {"unit": unit, "median": int(median), "p95": int(most), "longest": longest}
    return {**described, "max_length": reads, "cut": cut}
