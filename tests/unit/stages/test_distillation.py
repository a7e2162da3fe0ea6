"""A pruned model that learns from the full one: what it lessens, what decides, and what it never reads."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
from torch import nn

from cahp import models
from cahp.models import reading
from cahp.models.head_model import HeadModel
from cahp.models.reading import Divergences, Teacher, compare_answers, hold_out, logits_of
from cahp.models.surgery import cut
from cahp.models.training import Loss, Objective, Schedule, optimise
from cahp.models.windows import cut_windows
from cahp.recoveries import DistillReport
from cahp.stages import recovery
from cahp.stages.recovery import distill
from cahp.tasks.task import NEXT_TOKEN
from cahp.values import HeadMask

MASK = HeadMask(np.array([[True, False, False, True], [True, True, False, False], [False, True, False, False]]))
QUICK = Schedule(floor=0.02, epochs=2, learning_rate=1e-3, batch=16)
TEXTS = fakes.sentences(100)
FRESH = fakes.sentences(60, seed=9)
Distilled = tuple[HeadModel, DistillReport]


@pytest.fixture(scope="module")
def start(model: HeadModel) -> HeadModel:
    return cut(model, MASK)


@pytest.fixture(scope="module")
def found(model: HeadModel, start: HeadModel) -> Distilled:
    return distill(model, start, TEXTS.inputs, schedule=QUICK)


def divergence(model: HeadModel, full: HeadModel) -> float:
    tokens = model.tokenize(FRESH.inputs)
    return compare_answers(logits_of(model, tokens), logits_of(full, tokens))[0]


def test_distillation_brings_student_closer_to_teacher(model: HeadModel, start: HeadModel, found: Distilled) -> None:
    student, report = found
    assert report.accepted
    assert student.head_counts == (2, 2, 1)
    assert divergence(student, model) < 0.5 * divergence(start, model)
    assert (report.examples, report.held_out) == (80, 20)
    assert report.kl_after < report.kl_before
    # The epoch with the lowest divergence stays, with its agreement.
    assert report.held_out_agreement in [epoch.agreement for epoch in report.epochs]


def test_the_loss_is_the_formula(model: HeadModel, start: HeadModel, monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[Loss] = []
    made = optimise

    def observe(network: Any, model: Any, objective: Objective, **options: Any) -> Any:
        losses.append(objective.loss)
        return made(network, model, objective, **options)

    monkeypatch.setattr(recovery, "optimise", observe)
    texts = TEXTS.take(range(10))
    distill(model, start, texts.inputs, labels=texts.labels, schedule=replace(QUICK, epochs=1))
    learned, _ = hold_out(texts.inputs)
    (batch,) = model.batches(model.tokenize([texts.inputs[row] for row in learned]))
    rows, inputs = torch.as_tensor(batch.rows), batch.tensors
    with torch.no_grad():
        loss = losses[0](start.network, inputs, rows)
        mine, full = (one.network(**inputs).logits for one in (start, model))
    soft, hard = (mine / 2).log_softmax(-1), (full / 2).softmax(-1)
    expected = 4 * (hard * (hard.log() - soft)).sum(-1).mean()
    expected += nn.functional.cross_entropy(mine, torch.as_tensor(texts.labels[learned])[rows])
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_a_language_model_learns_the_divergence_by_which_it_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "has_bfloat16", lambda _: False)
    full = models.load(str(fakes.save_language_model(tmp_path, family="llama")), device="cpu")
    windows = cut_windows(full.card, fakes.sentences(20), window=16, tokens=10**6).inputs
    student = cut(full, HeadMask.of([0, 2], full.layers, full.heads))
    teacher = Teacher(full, windows)
    (batch,) = full.batches(full.tokenize(windows))
    with torch.no_grad():
        loss = teacher.loss(student.network, batch.tensors, batch.rows)
    assert float(loss) == pytest.approx(teacher.compare(student, batch.rows).text, rel=1e-5)
    assert NEXT_TOKEN.distill_rate == 5e-5


def test_an_epoch_that_repeats_less_well_is_not_kept(
    model: HeadModel, start: HeadModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is nearer on text, and would be rejected at the end."""
    told = iter([(0.2, 1.0), (0.1, 1.1), (0.15, 0.9), (0.18, 0.8), (0.15, 0.9)])
    seen: list[torch.Tensor] = []

    def compare(*_: object, network: Any = None, **options: object) -> Divergences:
        seen.append(list(network.parameters())[-1].sum())
        return Divergences(*next(told), agreement=0.5, count=9)

    monkeypatch.setattr(Teacher, "compare", compare)
    _, report = distill(model, start, TEXTS.inputs, schedule=replace(QUICK, epochs=3))
    assert report.accepted
    assert seen[4] == seen[2] != seen[1]


def test_a_student_that_is_farther_from_its_teacher_is_rejected(model: HeadModel, start: HeadModel) -> None:
    student, wild = distill(model, start, TEXTS.inputs, schedule=replace(QUICK, epochs=1, learning_rate=3.0))
    assert not wild.accepted
    assert wild.reason.endswith(": the refit stays")
    assert student is start
    hot = replace(QUICK, epochs=1, learning_rate=1e30)
    student, broken = distill(model, start, TEXTS.inputs, schedule=hot, called="it")
    assert (broken.accepted, student is start) == (False, True)
    assert "finite" in broken.reason
