"""``cahp.measure_perplexity``: the perplexity of a language model by a standard protocol."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, Unpack

from cahp import data as data_sets
from cahp.api.options import (
    ModelOptions,
    Name,
    ShowProgress,
    check_used,
    read_mask_for,
    read_settings,
    show_progress,
)
from cahp.data.parts import RunningText
from cahp.data.sources import find, is_built_in
from cahp.exports.masks import kept_heads
from cahp.features.standard_protocol.measuring import PrunedModel, estimate_outcomes, evaluate_whole
from cahp.features.standard_protocol.protocols import PROTOCOLS, Cutting, Protocol, WindowedText
from cahp.models.cards import ModelCard
from cahp.run.document import outcome_records
from cahp.run.measurements import Measurements
from cahp.run.resources import Resources
from cahp.run.settings import Settings, choose_precisions, identify_model, precision_notices
from cahp.run.split_log import TestSplitLog
from cahp.run.splits import record_split
from cahp.run.texts import ALL, data_name
from cahp.store import Store
from cahp.values import DataError, HeadMask, ModelError, OptionError

#: The fields of the settings that take effect here.
_USED = ("model", "data", "eval_split", "window", "stride", "text_column", "seed", "device", "precision", "dtype")


def measure_perplexity(
    model: Name | Settings = Settings.model,
    data: Name | None = None,
    *,
    protocol: Literal["lm-eval", "transformers"] = "lm-eval",
    mask: HeadMask | Name | None = None,
    first: int | None = None,
    progress: ShowProgress = None,
    yes: bool = False,
    store: Store | None = None,
    **options: Unpack[ModelOptions],
) -> dict[str, Any]:
    """Measure the perplexity of a language model on a whole text in its order, as others compute it.

    With all heads and under a mask. Finished parts are cached, so an interrupted call resumes.

    Args:
        model: A built-in, a hub id, a folder or a GGUF file; or a ``Settings`` with all options.
        data: ``wikitext-2``, ``c4``, a text file, or other data by name (None: the data that belong to the model).
        protocol: ``lm-eval``, the rolling log-likelihood of lm-evaluation-harness, or ``transformers``, the perplexity
            of the guide of transformers.
        mask: A head mask or its file (None: evaluate the full model only).
        first: Evaluate only the first tokens, so many at least (None: all).
        progress, yes, store: See ``cahp.prune``.
        **options: The options of ``cahp evaluate`` that are used: ``window`` (others publish 2,048), ``stride``,
            ``eval_split``, ``text_column``, ``seed`` and those of the machine.

    Returns:
        The document that ``cahp evaluate --protocol ... --json`` prints.

    Raises:
        CahpError: If model, data and mask do not fit together; one line with the next step.
    """
    if protocol not in PROTOCOLS:
        raise OptionError(f"--protocol {protocol} is unknown; choose {' or '.join(PROTOCOLS)}")
    settings = read_settings("evaluate", model, data, options)
    _check_settings(settings, PROTOCOLS[protocol], first)
    store = store or Store()
    with show_progress(progress, yes=yes) as reporter:
        card = identify_model(settings)
        _check_model(settings, card)
        pruned_models: dict[str, PrunedModel] = {}
        if mask is not None:
            pruned_models["pruned"] = PrunedModel(read_mask_for(card, mask)[0])
        text, cut = cut_text(settings, card, PROTOCOLS[protocol], first)
        numbers = choose_precisions(settings)
        resources = Resources(card, store=store, device=settings.device, precisions=numbers)
        opened = TestSplitLog(card, _make_dataset(text, cut), store).open(text.split)
        evaluations = evaluate_whole(Measurements(resources), cut.texts, pruned_models, reporter)
        keep = None
        if pruned_models:
            keep = pruned_models["pruned"].mask
        return {
            "model": card.id,
            "data": record_split(resources, text.split, cut.texts).with_id(text.id),
            "protocol": describe_protocol(settings, PROTOCOLS[protocol], cut, first),
            "kept": kept_heads(keep),
            **outcome_records(estimate_outcomes(cut, evaluations, settings.seed)),
            "precision": numbers.evaluation,
            "test_opened": opened,
            "notices": [
                *precision_notices(replace(numbers, signatures="float32")),
                *resources.storage_notices,
                *text.notices,
            ],
        }


def cut_text(
    settings: Settings, card: ModelCard, protocol: Protocol, first: int | None
) -> tuple[RunningText, WindowedText]:
    """Read the text of the settings' data, and cut it as the protocol does.

    Raises:
        DataError: If there is no such text, or it is too short.
    """
    name = data_name(settings, card)
    if is_built_in(name):
        raise DataError(
            f"--protocol reads one text in its order, and {name} is a set of texts; name wikitext-2 or a file with "
            "--data"
        )
    text = find(name).read_in_order(settings.eval_split, text_column=settings.text_column)
    cut = protocol.cut(card, text, Cutting(settings.window, settings.stride, first))
    cut.texts = replace(cut.texts, classes=ALL)
    return text, cut


def describe_protocol(settings: Settings, protocol: Protocol, cut: WindowedText, first: int | None) -> dict[str, Any]:
    """Return how a perplexity was computed, as files have it."""
    stride = settings.stride or settings.window
    return {
        "name": protocol.name,
        "reference": protocol.reference,
        "window": settings.window,
        "stride": stride,
        "tokens": cut.tokens,
        "whole": first is None,
        **cut.describe(),
        "units": cut.units,
    }


def _check_settings(settings: Settings, protocol: Protocol, first: int | None) -> None:
    if first is not None and first < 1:
        raise OptionError(f"--first {first} is out of range; it must be at least 1")
    check_used(settings, _USED, f"--protocol {protocol.name}, which reads a text in its order")
    if settings.stride is not None and protocol.name == "lm-eval":
        raise OptionError("--stride has no effect on --protocol lm-eval; leave it out, or use --protocol transformers")
    if settings.stride is not None and settings.stride > settings.window:
        raise OptionError(f"--stride {settings.stride} would skip tokens; use at most --window {settings.window}")


def _check_model(settings: Settings, card: ModelCard) -> None:
    if card.task.items_are_texts:
        raise ModelError(f"{card.id} does not predict the next token of a text; name a causal language model")
    longest = card.longest_context
    if longest is not None and settings.window > longest:
        raise OptionError(
            f"--window {settings.window:,} is more than the {longest:,} tokens that {card.id} reads; lower it"
        )


def _make_dataset(text: RunningText, cut: WindowedText) -> data_sets.Dataset:
    whole = None
    if text.split == "test":
        whole = text.sha256
    return data_sets.Dataset(text.id, {text.split: cut.texts}, ALL, text.notices, whole_test=whole)
