"""``cahp.evaluate``, ``cahp.latency``, and what features measure of a mask, such as ``cahp.abilities``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from cahp.api.options import (
    AnyData,
    AnyMask,
    AnyModel,
    GivenRun,
    Name,
    ShowProgress,
    check_bounds,
    find_run,
    is_loaded,
    read_call,
    read_mask_for,
    read_settings,
    show_progress,
    use_mask,
)
from cahp.exports.masks import kept_heads
from cahp.features.attribution import TOP
from cahp.files import is_there
from cahp.models.cards import Dtype, ModelCard
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.bench import check_classifier, labelling, open_bench
from cahp.run.document import latency_record, outcome_records
from cahp.run.evidence import find_roles
from cahp.run.keywords import ModelOptions
from cahp.run.measurements import Measurements
from cahp.run.measures import MaskSubject, Measure, check, measure
from cahp.run.recoveries import Recovered
from cahp.run.resources import Resources, TestSplitLog, cut_notices, record_split
from cahp.run.settings import Settings, choose_precisions, identify_model, parse_duration, precision_notices
from cahp.run.texts import draw_sample, label_reading, load_data, match_labels, window_protocol
from cahp.store import Store
from cahp.values import HeadMask, Input, JsonObject, Notices, OptionError, Progress
from cahp.values.head_roles import HeadRoles

if TYPE_CHECKING:
    from cahp.features.attribution.result import Attribution
    from cahp.models.head_model import HeadModel


def evaluate(
    model: AnyModel | None = None,
    data: AnyData | None = None,
    *,
    mask: AnyMask | None = None,
    force: bool = False,
    progress: ShowProgress = None,
    yes: bool = False,
    store: Store | None = None,
    **options: Unpack[ModelOptions],
) -> JsonObject:
    """Evaluate a model on ``eval_split``, with all heads and under a mask, and of a run also after its recovery.

    Args:
        model: A run, which tells model, data, mask and options that are not given: its folder, one of its files, or
            the result of ``cahp.prune``. Or a built-in, a hub id, a folder, a GGUF file, or a ``Settings`` with all
            options (None: the model of the mask).
        data: A built-in, a file, a folder, ``hub:org/name``, a table or a list of texts (None: those of the model).
        mask: A head mask, its array, a dict of kept heads, or its file (None: evaluate the full model only).
        force: Use a mask that was made for another model.
        progress, yes, store: See ``cahp.prune``.
        **options: The options of ``cahp evaluate``, by the names of ``cahp.Settings``.

    Returns:
        The document that ``cahp evaluate --json`` prints; ``metrics`` and ``delta`` are those of ``run.json``.

    Raises:
        CahpError: If model, data and mask do not fit together; one line with the next step.
    """
    run = None
    if mask is None or (isinstance(mask, str | PathLike) and is_there(Path(mask), Path.is_dir)):
        # A single mask has no recovery.
        run = find_run(mask or model)
    settings, mask = read_call("evaluate", model, data, options, mask=mask)
    store = store or Store()
    with show_progress(progress, yes=yes) as reporter:
        card = identify_model(settings)
        prompt_notices = check_classifier(settings, card)
        keep = None
        mask_notices: Notices = ()
        if mask is not None:
            given = read_mask_for(card, mask, force=force)
            keep = given.mask
            mask_notices = given.notices
        raw = load_data(settings, card)
        # The mix of calibration texts is not read here.
        dataset = match_labels(raw, replace(settings, mix="0"), card)
        texts, notices = draw_sample(dataset, "eval-split", settings)
        log = TestSplitLog(card, dataset, store)
        numbers = choose_precisions(settings)
        resources = Resources(card, store=store, device=settings.device, precisions=numbers, progress=reporter)
        measurements = Measurements(resources)
        opened = log.open(settings.eval_split)
        recovered = None
        if run is not None and keep is not None:
            recovered = _recover(run, card, keep, store, reporter)
        outcomes = measurements.outcomes(texts, keep, recovered=recovered, seed=settings.seed)
        return {
            "model": card.id,
            "data": {"id": dataset.id, **vars(record_split(resources, settings.eval_split, texts))},
            "protocol": window_protocol(settings, card, texts),
            "kept": kept_heads(keep),
            **outcome_records(outcomes),
            "precision": numbers.evaluation,
            "test_opened": opened,
            "notices": [
                *precision_notices(replace(numbers, signatures="float32")),
                *resources.storage_notices,
                *card.notes,
                *prompt_notices,
                *mask_notices,
                *dataset.notices,
                *notices,
                *cut_notices(resources, {settings.eval_split: texts}),
                *labelling(measurements.evaluate(texts), label_reading(raw, dataset)),
            ],
        }


def _recover(run: GivenRun, card: ModelCard, mask: HeadMask, store: Store, progress: Progress) -> Recovered | None:
    """Return the recovered model of a run of ``card`` (None: it is not stored, and takes a training; or of another)."""
    row = RECOVERIES[run.settings.recover]
    if row is NONE:
        return None
    bench = open_bench(run.settings, store=store, progress=progress)
    if bench.card.sha256 != card.sha256:
        return None
    if row.trains:
        return bench.recoveries.read(mask, row.name)
    return bench.recoveries.recover(mask, row.name)


def latency(
    model: AnyModel | None = None,
    *,
    mask: AnyMask | None = None,
    force: bool = False,
    batch: int | None = None,
    length: int | None = None,
    repeats: int | None = None,
    progress: ShowProgress = None,
    yes: bool = False,
    store: Store | None = None,
    **options: Unpack[ModelOptions],
) -> JsonObject:
    """Time a model cut to a mask against the full model, alternating, until the ratio is known within 2 %.

    The document of a causal language model tells also how large its cache of keys and values is, and how fast it reads
    a context and writes a token.

    Args:
        model: A run, which tells model, data, mask and options that are not given: its folder, one of its files, or
            the result of ``cahp.prune``. Or a built-in, a hub id, a folder, a GGUF file, or a ``Settings`` with all
            options (None: the model of the mask).
        mask: A head mask, its array, a dict of kept heads, or its file (None: that of the run).
        force: Use a mask that was made for another model.
        batch: Number of texts per batch (None: 8; a causal language model: 1).
        length: Number of tokens per text (None: 64; a causal language model: 128, 1,024 and 4,096, as far as the time
            allows).
        repeats: Number of rounds (None: until the ratio is known or ``latency_time`` is over).
        progress, yes, store: See ``cahp.prune``.
        **options: ``device``, ``latency_time``, ``prompt`` and ``answers``.

    Returns:
        The document that ``cahp latency --json`` prints; its fields are those of ``run.json``.

    Raises:
        CahpError: If model and mask do not fit together; one line with the next step.
    """
    settings, mask = read_call("latency", model, None, options, mask=mask)
    check_bounds(batch=batch, length=length, repeats=repeats)
    card = identify_model(settings)
    given = read_mask_for(card, mask, force=force)
    keep = given.mask
    with show_progress(progress, yes=yes) as reporter:
        resources = Resources(card, store=store or Store(), device=settings.device, progress=reporter)
        seconds = parse_duration(settings.latency_time, "--latency-time")
        costs = Measurements(resources).costs(keep, batch=batch, length=length, seconds=seconds, repeats=repeats)
    return {
        "model": card.id,
        "kept": kept_heads(keep),
        **latency_record(costs, card, keep),
        "attention_weights": card.cacheable_weights,
        "notices": [*given.notices, *resources.storage_notices, *costs.notices],
    }


# One text, and the roles of heads ------------------------------------------------------------------------------


def attribute(
    model: Name | HeadModel | Settings = Settings.model,
    text: Input = "",
    *,
    answer: str | None = None,
    data: AnyData | None = None,
    top: int = TOP,
    progress: ShowProgress = None,
    yes: bool = False,
    store: Store | None = None,
    **options: Unpack[ModelOptions],
) -> Attribution:
    """Measure which heads matter for one text: what the log-probability of an answer loses without each head.

    The change without each head is estimated for all heads by attribution patching, in one forward and one backward
    pass; without the ``top`` heads it is measured exactly. A removed head gives its mean output over calibration texts.
    ``cahp.attribute("smollm2", "The capital of France is").rows`` has one row per head.

    Args:
        model: A built-in, a hub id, a folder, a GGUF file, or a model loaded by ``cahp.load``; or a ``Settings``.
        text: A text, or a pair of texts as a tuple.
        answer: A class, or one token that follows the text, such as ``" Paris"`` (None: the predicted one).
        data: Where the calibration texts come from (None: the data that belong to the model).
        top: Number of heads that are removed exactly, each and together; at most half of all.
        progress, yes, store: See ``cahp.prune``.
        **options: The options of ``cahp attribute``, by the names of ``cahp.Settings``.

    Raises:
        CahpError: If the text is empty or too long, there is no such answer, or the model is pruned already.
    """
    from cahp.features.attribution.measuring import TextQuestion, attribute_answer, find_baseline

    if top < 1:
        raise OptionError(f"top is {top}; give at least 1")
    with show_progress(progress, yes=yes) as reporter:
        loaded = None
        named: object = model
        if is_loaded(model):
            loaded = model
            named = model.card.id
        settings = read_settings("attribute", named, data, options)
        bench = open_bench(settings, store=store, model=loaded, progress=reporter)
        question = TextQuestion.read(bench.model, text, find_baseline(bench))
        return attribute_answer(question, bench.class_names, answer, top=top, seed=settings.seed, progress=reporter)


def roles(
    model: Name | HeadModel = Settings.model,
    *,
    ablate: bool = False,
    device: str = Settings.device,
    dtype: Dtype = Settings.dtype,
    progress: ShowProgress = None,
    yes: bool = False,
    store: Store | None = None,
) -> HeadRoles:
    """Measure the roles of the heads of a model, without labels or data; see ``cahp.values.head_roles.ROLES``.

    ``cahp.roles("smollm2").names`` has the role of each key-value group, or "none".

    Args:
        model: A built-in, a hub id, a folder, a GGUF file, or a model loaded by ``cahp.load``.
        ablate: Also measure the loss of a causal language model without the heads of each role, and without random
            sets of as many heads of the same layers, on sequences that did not assign the roles.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        dtype: ``float32``, ``auto`` or ``bfloat16``, see ``cahp.load``.
        progress, yes, store: See ``cahp.prune``.

    Raises:
        CahpError: If the model cannot be loaded or read, or ablations have no loss; one line with the next step.
    """
    with show_progress(progress, yes=yes) as reporter:
        store = store or Store()
        if is_loaded(model):
            resources = Resources(model.card, store=store, model=model, progress=reporter)
        else:
            settings = read_settings("roles", model, None, {"device": device, "dtype": dtype})
            resources = Resources(identify_model(settings), store=store, device=device, progress=reporter)
        return find_roles(resources, ablate=ablate)


# What features measure -----------------------------------------------------------------------------------------


#: What the docstring of each function says after its own sentence.
_ARGUMENTS = """

    Args:
        model: A run, which tells model, data, mask and options that are not given: its folder, one of its files, or
            the result of ``cahp.prune``. Or a built-in, a hub id, a folder, a GGUF file, or a ``Settings`` with all
            options (None: the model of the mask).
        data: A built-in, a file, a folder, ``hub:org/name``, a table or a list of texts (None: those of the model).
        mask: A head mask, its array, a dict of kept heads, or its file (None: measure the full model only).
        force: Use a mask that was made for another model.
        recover: Also measure the model after this recovery, such as ``refit`` (None: as the ``Settings`` say).
        progress, yes, store: See ``cahp.prune``.
        **options: The options of the command of this name, by the names of ``cahp.Settings``.

    Raises:
        CahpError: If model, data and mask do not fit together; one line with the next step.
    """


def measure_mask(
    one: Measure[Any],
    settings: Settings,
    mask: AnyMask | None = None,
    *,
    options: Any,
    force: bool = False,
    progress: ShowProgress = None,
    yes: bool = False,
    store: Store | None = None,
) -> tuple[Any, MaskSubject]:
    """Measure one of a mask (None: of the full model), after the recovery of the settings; return what it is about.

    Raises:
        CahpError: If model, data, mask and options do not fit together.
    """
    if mask is not None and not one.of_mask:
        raise OptionError(f"{one.name} is about the model, whatever the mask is; leave the mask out")
    if mask is None and settings.recover != Settings.recover:
        raise OptionError(f"--recover {settings.recover} needs a pruned model; give its mask with --mask")
    with show_progress(progress, yes=yes) as reporter:
        bench = open_bench(settings, store=store, progress=reporter)
        check(one, bench, options)
        keep = bench.card.full_mask
        recovered = None
        if mask is not None:
            keep = use_mask(bench.card, mask, force=force)
            bench.recoveries.check(settings.recover)
            recovered = bench.recoveries.recover(
                keep, settings.recover, labels=settings.labels, seconds=settings.recover_seconds
            )
        record = measure(one, bench, keep, recovered, options)
    return record, MaskSubject(keep, settings.recover, bench.card.unit)


@cache
def make_function(one: Measure[Any]) -> Callable[..., Any]:
    """Return the function of ``cahp`` that measures one; its result is the record of the measure."""
    own = {entry.name for entry in fields(one.options)}

    def function(
        model: AnyModel | None = None,
        data: AnyData | None = None,
        *,
        mask: AnyMask | None = None,
        force: bool = False,
        recover: str | None = None,
        progress: ShowProgress = None,
        yes: bool = False,
        store: Store | None = None,
        **options: Any,
    ) -> Any:
        chosen = replace(one.options(), **{name: options.pop(name) for name in own & options.keys()})
        settings, kept = read_call(one.takes, model, data, options, mask=mask, own={"recover": recover})
        if not one.of_mask:
            kept = mask
        record, _ = measure_mask(
            one, settings, kept, options=chosen, force=force, progress=progress, yes=yes, store=store
        )
        return record

    function.__name__ = one.name
    function.__qualname__ = one.name
    function.__doc__ = one.help + _ARGUMENTS
    return function
