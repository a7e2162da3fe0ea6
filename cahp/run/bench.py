"""A bench: a model and its data, matched, sampled and ready to be measured."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from cahp import data, methods, models
from cahp.goals import Goal
from cahp.models.cards import Costs, ModelCard
from cahp.models.identity import explain_missing_classes
from cahp.outcomes import OUTCOMES, wilson
from cahp.recoveries import RECOVERIES
from cahp.run.evidence import HeadEvidence
from cahp.run.measurements import Measurements
from cahp.run.recoveries import Recovered, Recoveries
from cahp.run.resources import Loader, Resources, cut_notices
from cahp.run.settings import (
    Settings,
    check_recovery,
    check_splits,
    choose_precisions,
    enlarge,
    identify_model,
    join_pairs,
    parse_duration,
    precision_notices,
    recovery_growth,
)
from cahp.run.texts import (
    check_classes,
    cut_split,
    digest_all_unlabelled,
    draw_sample,
    label_reading,
    load_data,
    match_labels,
    read_all_unlabelled,
    read_unlabelled,
    window_protocol,
)
from cahp.store import Store, key
from cahp.tasks.answers import Evaluation, WindowProtocol
from cahp.tasks.texts import Texts
from cahp.values import HeadMask, ModelError, Names, Notices, OptionError, Progress, silent

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel
    from cahp.models.training import Watch


#: Smallest gain in accuracy by permuted labels that is worth a warning.
_SUSPICIOUS = 0.15


@dataclass(frozen=True, eq=False)
class Bench:
    """A model and its data, matched and sampled, with the evidence of its heads, measurements and recoveries."""

    settings: Settings
    card: ModelCard
    dataset: data.Dataset
    resources: Resources
    evidence: HeadEvidence
    measurements: Measurements
    recoveries: Recoveries
    calibration: Texts
    evaluation: Texts
    notices: Notices
    #: The model's class for each label as the data names it.
    reading: Mapping[str, str] = field(default_factory=dict)

    @property
    def full(self) -> Evaluation:
        """The full model's evaluation on the evaluation texts."""
        return self.measurements.evaluate(self.evaluation)

    @property
    def counted_measure(self) -> str | None:
        """The name of the measure that the goal counts (None: there is no such goal)."""
        if self.settings.goal is None:
            return None
        return Goal.parse(self.settings.goal).kind.section

    @property
    def class_names(self) -> Names:
        """The classes as the labels of the data name them; those that no label means keep the model's name."""
        names: dict[str, list[str]] = {}
        for label, name in self.reading.items():
            names.setdefault(name, []).append(label)
        return tuple(" / ".join(names.get(name, [name])) for name in self.evaluation.classes)

    @property
    def model(self) -> HeadModel:
        """The model, loaded and proven on first use."""
        return self.resources.model

    @property
    def growth(self) -> float:
        """How many times the items that choose the heads recoveries without labels read."""
        return recovery_growth(self.settings, self.card)

    def count_passes(self, recover: str) -> float:
        """Estimate the forward passes of one text that a recovery takes."""
        texts = len(self.calibration)
        return RECOVERIES[recover].passes(texts, growth=self.growth, can_refit=not self.card.no_refit)

    def costs(self, mask: HeadMask, recovered: Recovered | None = None, *, fresh: bool = False) -> Costs:
        """Time the model cut to ``mask`` beside the full one, on texts as long as these; see ``Measurements.costs``."""
        seconds = parse_duration(self.settings.latency_time, "--latency-time")
        return self.measurements.costs(mask, recovered, length=self.length, seconds=seconds, fresh=fresh)

    @property
    def cut_notices(self) -> Notices:
        """Notices about texts of which only the beginning is read; to count them takes the model or a stored result."""
        splits = {self.settings.select_split: self.calibration, self.settings.eval_split: self.evaluation}
        return tuple(cut_notices(self.resources, splits))

    @property
    def protocol(self) -> WindowProtocol | None:
        """How the evaluation windows of a language model were cut (None: there are none)."""
        return window_protocol(self.settings, self.card, self.evaluation)

    @cached_property
    def length(self) -> int | None:
        """Length in tokens at which latency is measured: 95th percentile of the evaluation texts, a multiple of 8.

        None: a causal language model, which is timed at several lengths.
        """
        if self.card.saves == "cache":
            return None
        name = key("length", 2, self.card.sha256, self.evaluation.sha256)

        def measure() -> int:
            model = self.model
            lengths = [len(entry["input_ids"]) for entry in model.tokenize(self.evaluation.inputs)]
            return min(model.max_length, 8 * math.ceil(float(np.percentile(lengths, 95)) / 8))

        return self.resources.find_record(name, int, measure)


def open_bench(
    settings: Settings,
    *,
    store: Store | None = None,
    card: ModelCard | None = None,
    dataset: data.Dataset | None = None,
    windows: data.Dataset | None = None,
    model: HeadModel | None = None,
    load: Loader = models.load,
    progress: Progress = silent,
    watch: Watch | None = None,
) -> Bench:
    """Identify the model, read and match the data, and draw the samples, without loading weights.

    ``model``, ``card`` and ``dataset`` (its labels not matched yet) may be passed in, and of a language model the
    ``windows`` of the data. ``load`` loads the model on first use. ``watch`` observes trainings.

    Raises:
        ModelError, DataError, OptionError: If model and data cannot be used together.
    """
    check_splits(settings)
    check_recovery(settings)
    if card is None and model is not None:
        card = model.card
    if card is None:
        card = identify_model(settings)
    prompt_notices = check_classifier(settings, card)
    if card.kept is not None:
        raise ModelError(f"{card.id} is already pruned, and its heads cannot be chosen again; prune the original model")
    raw = dataset
    if raw is None:
        raw = load_data(settings, card)
    dataset = windows
    if dataset is None:
        dataset = match_labels(raw, settings, card)
    check_labels(settings, dataset)
    calibration, drawn = draw_sample(dataset, "select-split", settings)
    evaluation, sampled = draw_sample(dataset, "eval-split", settings)
    drawn += check_classes(dataset.split(settings.select_split), calibration, settings)
    resources = Resources(
        card,
        store=store or Store(),
        device=settings.device,
        precisions=choose_precisions(settings),
        model=model,
        load=load,
        progress=progress,
    )
    resources.watch = watch
    larger = enlarge(settings)
    unlabelled, left_out = read_unlabelled(larger, raw, dataset, card)
    notices = (
        *precision_notices(resources.precisions),
        *card.notes,
        *prompt_notices,
        *dataset.notices,
        *drawn,
        *sampled,
        *left_out,
    )
    return Bench(
        settings,
        card,
        dataset,
        resources,
        HeadEvidence(resources, calibration, settings),
        Measurements(resources),
        Recoveries(
            resources,
            calibration,
            seed=settings.seed,
            rank=settings.bypass_rank,
            unlabelled=unlabelled,
            more=lambda: cut_split(raw, settings.select_split, larger, card).inputs,
            everything=lambda: read_all_unlabelled(settings, raw, dataset, card),
            digest_everything=partial(digest_all_unlabelled, larger, raw),
        ),
        calibration,
        evaluation,
        notices,
        label_reading(raw, dataset),
    )


def check_labels(settings: Settings, dataset: data.Dataset) -> None:
    """Check that nothing needs labels where there are none.

    Raises:
        OptionError: If the method or the recovery does.
    """
    if dataset.labelled:
        return
    option = ""
    # The next token serves as the label of a language model.
    if all(texts.task.predicts_labels for texts in dataset.splits.values()):
        if settings.method in methods.names() and methods.facts(settings.method).labels == "needed":
            option = f"--method {settings.method}"
        elif RECOVERIES[settings.recover].needs_labels:
            option = f"--recover {settings.recover}"
    if settings.goal is not None:
        outcome = Goal.parse(settings.goal).kind.outcome
        if outcome is not None and OUTCOMES[outcome].needs_labels:
            option = option or f"--goal {settings.goal}"
    if settings.labels:
        option = option or "--labels"
    if option:
        raise OptionError(
            f"{option} needs labels, which {dataset.id} lacks; leave it out, use labelled data, or give a language "
            "model --prompt and --answers"
        )


def check_classifier(settings: Settings, card: ModelCard) -> Notices:
    """Check that the model has classes, before data are read; return notices about the tokens that answer a prompt.

    Raises:
        ModelError: If it is a plain encoder, or a language model without a prompt.
        OptionError: If two answers of a language model begin with the same token.
    """
    if not card.labels and card.task.predicts_labels:
        raise ModelError(explain_missing_classes(card, settings.model))
    reading = models.preview_prompt(card)
    if reading is None or reading.notice is None:
        return ()
    return (reading.notice,)


def labelling(full: Evaluation, reading: Mapping[str, str]) -> list[str]:
    """Return a notice if the full model's predictions suggest permuted labels, with the option that corrects it.

    Many checkpoints permute the classes of their data set: the permutation is that of the highest accuracy. ``reading``
    is the model's class for each label as the data spells it.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import confusion_matrix

    if not full.labelled:
        return []
    classes = full.classes
    total = len(full)
    confusion = confusion_matrix(full.labels, full.predictions, labels=range(len(classes)))
    rows, columns = linear_sum_assignment(confusion, maximize=True)
    right = int(confusion.trace())
    better = int(confusion[rows, columns].sum())
    # With few texts the difference may be chance: the two intervals must not overlap.
    if better - right < _SUSPICIOUS * total or wilson(better, total)[0] <= wilson(right, total)[1]:
        return []
    mapping = {classes[row]: classes[column] for row, column in zip(rows, columns, strict=True)}
    # The option must name all labels, because it replaces matching by value.
    option = join_pairs({ours: mapping[theirs] for ours, theirs in reading.items()})
    return [
        f"the labels may be permuted: accuracy is {right / total:.1%} with these labels, and would be "
        f"{better / total:.1%} with --label-map {shlex.quote(option)}"
    ]
