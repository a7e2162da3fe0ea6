"""``cahp.attribute``: which heads matter for one text and one answer."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any, Unpack

from cahp.api.options import ModelOptions, Name, ShowProgress, read_settings, show_progress
from cahp.features.attribution import TOP
from cahp.features.attribution.baseline import Baseline, find_baseline, may_use_bundled, read_bundled
from cahp.features.attribution.measuring import AnswerWanted, TextQuestion, attribute_in_steps
from cahp.features.attribution.result import Attribution
from cahp.run.bench import open_bench
from cahp.run.resources import Resources
from cahp.run.settings import Settings, identify_model
from cahp.store import Store
from cahp.values import Input, ModelError, OptionError, Progress

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel


def attribute(
    model: Name | HeadModel | Settings = Settings.model,
    text: Input = "",
    *,
    answer: str | None = None,
    data: Name | None = None,
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
    if top < 1:
        raise OptionError(f"top is {top}; give at least 1")
    with show_progress(progress, yes=yes) as reporter:
        loaded, settings = _read_model(model, data, options)
        found, baseline, classes = _open(loaded, settings, store or Store(), reporter)
        question = TextQuestion.read(found, text, baseline)
        wanted = AnswerWanted(answer, classes)
        *_, result = attribute_in_steps(question, wanted, top=top, seed=settings.seed, progress=reporter)
    return result


def _read_model(
    model: Name | HeadModel | Settings, data: Name | None, options: Any
) -> tuple[HeadModel | None, Settings]:
    """Return a loaded model, if one is given, and the settings of the call."""
    if isinstance(model, str | PathLike | Settings):
        return None, read_settings("attribute", model, data, options)
    return model, read_settings("attribute", model.card.id, data, options)


def _open(
    loaded: HeadModel | None, settings: Settings, store: Store, progress: Progress
) -> tuple[HeadModel, Baseline, tuple[str, ...]]:
    """Return the model, its baseline and the names of its classes; data are read only where no baseline is bundled."""
    resources = _open_resources(loaded, settings, store, progress)
    card = resources.card
    if card.kept is not None:
        raise ModelError(f"{card.id} is already pruned; attribute the answer of the original model")
    baseline = None
    if may_use_bundled(settings):
        baseline = read_bundled(card)
    if baseline is not None:
        return resources.model, baseline, card.labels
    bench = open_bench(settings, store=store, card=card, model=loaded, progress=progress)
    return bench.model, find_baseline(bench), bench.class_names


def _open_resources(loaded: HeadModel | None, settings: Settings, store: Store, progress: Progress) -> Resources:
    """Return the loaded model, or the one that the settings name, which is loaded on first use."""
    if loaded is not None:
        return Resources(loaded.card, store=store, model=loaded, progress=progress)
    return Resources(identify_model(settings), store=store, device=settings.device, progress=progress)
