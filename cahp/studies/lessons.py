"""Redundancy in six small steps: what is done to a model, and a question to guess at. ``answers`` measures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from cahp.costs import Costs
from cahp.run.bench import Bench
from cahp.run.latency_worker import LatencyWorker
from cahp.run.measurements import Measurements
from cahp.run.recoveries import Recoveries
from cahp.run.resources import Loader, Resources
from cahp.studies.filling import time_mask
from cahp.studies.head_clusters import HeadClusters
from cahp.values import Floats, HeadMask, Ints, Progress, Selection, Texts, digest

#: Texts that every step is measured on: few enough to be quick, enough for an interval of a few points.
EXAMPLES = 300
#: Random choices of heads that CAHP's is held against.
DRAWS = 20
#: Random sets of other heads that stand beside the representatives.
CONTROLS = 5
#: Random choices that are refitted as well: each costs a refit.
REFITTED_DRAWS = 5


@dataclass(frozen=True)
class Step:
    """One step: what is done to the model, the question, and the range and unit of a guess.

    ``counted`` says what one of the unit is; ``terms`` explains the field's words that come up here first.
    """

    name: str
    title: str
    doing: str
    question: str
    unit: str
    highest: int
    counted: str
    terms: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Subject:
    """A finished selection of heads and evaluation texts, which all steps measure.

    ``open_bench(progress)`` opens the model and its calibration texts, ``costs(mask, progress)`` times the cut model.
    ``mask`` keeps CAHP's heads, ``labels (N,)`` are their clusters, ``salience (L, H)`` their salience.
    """

    open_bench: Callable[[Progress], Bench]
    costs: Callable[[HeadMask, Progress], Costs]
    texts: Texts
    mask: HeadMask
    labels: Ints
    salience: Floats

    @classmethod
    def of(cls, evaluation: Texts, **selection: Any) -> Subject:
        """The subject on at most ``EXAMPLES`` texts, spread evenly over the evaluation texts."""
        rows = np.unique(np.linspace(0, len(evaluation) - 1, min(EXAMPLES, len(evaluation))).astype(np.int64))
        return cls(texts=evaluation.take(rows), **selection)

    @cached_property
    def sha256(self) -> str:
        """Tells apart what the answers depend on: the texts, the kept heads, and the heads that are switched off."""
        return digest(self.texts.sha256, self.mask.sha256, str(self.strongest), str(self.largest_cluster))

    @cached_property
    def strongest(self) -> tuple[int, int]:
        """Layer and head of highest salience."""
        layer, head = np.unravel_index(int(np.argmax(self.salience)), self.salience.shape)
        return int(layer), int(head)

    @cached_property
    def largest_cluster(self) -> tuple[list[int], int]:
        """Flat indices of the largest cluster's heads, and of the one that represents it."""
        members = np.flatnonzero(self.labels == np.bincount(self.labels).argmax())
        kept = [head for head in members if self.mask.keep.ravel()[head]]
        candidates = np.array(kept or members)
        representative = candidates[np.argmax(self.salience.ravel()[candidates])]
        return [int(head) for head in members], int(representative)

    def without(self, heads: Iterable[int]) -> HeadMask:
        """All heads but these."""
        keep = np.ones(self.mask.keep.size, dtype=np.bool_)
        keep[list(heads)] = False
        return HeadMask(keep.reshape(self.mask.keep.shape))


def subject_of(
    bench: Bench, clusters: HeadClusters, selection: Selection, *, load: Loader, fresh_times: bool = False
) -> Subject:
    """The subject that a workbench and a selection of its heads make; ``load`` is how its model is read.

    With ``fresh_times`` times are taken once more, also those that are in the store.
    """

    def open_bench(progress: Progress) -> Bench:
        resources = Resources(
            bench.card,
            store=bench.resources.store,
            device=bench.settings.device,
            load=load,
            progress=progress,
        )
        recoveries = Recoveries(resources, bench.calibration, seed=bench.settings.seed)
        return replace(bench, resources=resources, measurements=Measurements(resources), recoveries=recoveries)

    def costs(mask: HeadMask, progress: Progress) -> Costs:
        with LatencyWorker.of(bench) as watch:
            return time_mask(watch, bench, mask, progress, fresh=fresh_times)

    return Subject.of(
        bench.evaluation,
        open_bench=open_bench,
        costs=costs,
        mask=selection.mask,
        labels=clusters.groups(selection.k)[0],
        salience=clusters.salience,
    )


def steps(subject: Subject) -> list[Step]:
    """The six steps, in order, with the subject's own numbers in their words."""
    layer, head = subject.strongest
    members, _ = subject.largest_cluster
    total, kept, n = subject.mask.keep.size, subject.mask.count, len(subject.texts)
    answer = (
        "An answer is the class that the model names for a text. It changes when another class is named than with all "
        "heads, rightly or wrongly."
    )
    return [
        Step(
            "one-head",
            "Switch off one head",
            f"The model has {total} attention heads. We switch off the one that matters most by its gradient: "
            f"layer {layer}, head {head}. The other {total - 1} stay.",
            f"Of {n} answers, how many will change?",
            "answers",
            n,
            answer,
            {
                "attention head": "a part of a layer that decides which words of a text look at which others",
                "gradient": "how much the model's error would grow or shrink if the head spoke a little softer",
            },
        ),
        Step(
            "one-cluster",
            "Switch off a whole group of look-alikes but one",
            f"{len(members)} heads tell the classes apart in the same way; they form the largest cluster. We keep only "
            f"the one that represents them and switch off the other {len(members) - 1}.",
            f"Of {n} answers, how many will change?",
            "answers",
            n,
            answer,
            {"cluster": "a group of heads that differ less from each other than from the heads of other groups"},
        ),
        Step(
            "representatives",
            "Switch off the representatives",
            f"Now the other way round: the {kept} heads that CAHP would keep go, and the other {total - kept} stay. "
            f"For comparison, we also switch off as many of the others, drawn at random, {CONTROLS} times.",
            f"Of {n} answers, how many will change without the representatives?",
            "answers",
            n,
            answer,
            {"representative": "the head that stays for all of its cluster: the one that matters most by its gradient"},
        ),
        Step(
            "random",
            "Choose at random instead",
            f"CAHP keeps {kept} heads of {total}. We let chance keep as many, {DRAWS} times, and count right answers.",
            f"How many of the {DRAWS} random choices do at least as well as CAHP's?",
            "choices",
            DRAWS,
            f"A choice is {kept} heads drawn from {total}, some from every layer. It does at least as well if at least "
            f"as many of its {n} answers are right.",
            {"CAHP": "complementary attention head pruning: keep the representative of each cluster, prune the others"},
        ),
        Step(
            "refit",
            "Recover without training",
            f"With {kept} heads the rest of the model gets other inputs than it was trained on. Refit solves for new "
            "output weights in one pass, without labels and without training. Distillation would go on from "
            "there: the pruned model, a student, would learn to score each text as its teacher, the full model, does.",
            "How many points of accuracy does that win?",
            "points",
            50,
            "A point is one more right answer in a hundred texts.",
            {
                "output weights": "how strongly each head's result enters the sum that the layer passes on",
                "label": "the right answer to a text, as people gave it",
            },
        ),
        Step(
            "time",
            "Half of the heads, half of the time?",
            "We cut half of the heads out of every layer, so that the model is really smaller, and take the time of "
            "both models in turn.",
            "How much of the time is saved?",
            "per cent",
            50,
            "Per cent of the milliseconds that the full model takes for the same texts.",
            {"to cut": "to remove a head's weights from the model, where switching off only silences it"},
        ),
    ]
