from collections.abc import Callable
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
from cahp.models.training import Objective, Schedule, optimise
from cahp.models.windows import cut_windows
from cahp.recoveries import QUICK, RECOVERIES, DistillReport, refit_texts
from cahp.stages import recovery
from cahp.stages.evaluation import evaluate
from cahp.stages.recovery import choose_inputs, collect_grams, distill, mean_ablate, refit, solve, solve_at_once
from cahp.tasks.task import NEXT_TOKEN
from cahp.tasks.texts import Texts
from cahp.values import HeadMask


@pytest.fixture(scope="module")
def texts(model: HeadModel) -> Texts:
    """Texts labelled by the model itself, so that damage shows as lost accuracy."""
    drawn = fakes.sentences(200)
    return Texts(drawn.first, None, evaluate(model, drawn).predictions, drawn.classes)


MASK = HeadMask(np.array([[True, False, False, True], [True, True, False, False], [False, True, False, False]]))
MOST = HeadMask(np.array([[True] * 4, [True] * 4, [True, True, True, False]]))


def logits(model: HeadModel, texts: Texts) -> torch.Tensor:
    found = torch.zeros(len(texts), len(texts.classes))
    for batch in model.batches(model.tokenize(texts.inputs)):
        found[batch.rows] = model.logits(batch)
    return found


def ridge_of(
    full: Any, context: torch.Tensor, wanted: torch.Tensor, kept: torch.Tensor, ridge: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias that are nearest to the old ones of the kept channels and to what is wanted, in one system."""
    context = context[:, kept]
    design = torch.cat([context, torch.ones(len(context), 1, dtype=torch.float64)], 1)
    start = torch.cat([full.weight[:, kept].T, full.bias[None]]).double()
    penalty = torch.eye(design.shape[1], dtype=torch.float64) * ridge * (context**2).sum(0).mean()
    penalty[-1, -1] = 0
    solution = start + torch.linalg.solve(design.T @ design + penalty, design.T @ (wanted - design @ start))
    return solution[:-1].T, solution[-1]


def test_with_all_heads_kept_the_old_weights_come_back(model: HeadModel, texts: Texts) -> None:
    solved = solve(model, HeadMask.full(3, 4), texts.inputs)
    for layer in range(3):
        for site in ("output", "feed_out"):
            new, old = solved.projection(layer, site), model.projection(layer, site)
            assert torch.equal(new.weight, old.weight)
            assert torch.equal(new.bias, old.bias)
    # The solution of the first layer is the ridge regression that it claims to be.
    ridge = 0.1
    solved = solve(model, MASK, texts.inputs, ridge=ridge)
    rows, targets = [], []
    for batch in model.batches(model.tokenize(texts.inputs)):
        seen: list[torch.Tensor] = []
        state = model.enter(batch)
        model.step(state, tap=lambda site, _, x, seen=seen: seen.append(x) if site == "output" else None)
        rows.append(seen[0][state.real].double())
        targets.append(model.projection(0).module(seen[0])[state.real].double())
    kept = torch.as_tensor(np.repeat(MASK.keep[0], model.card.head_size))
    weight, bias = ridge_of(model.projection(0), torch.cat(rows), torch.cat(targets), kept, ridge)
    assert torch.allclose(solved.projection(0).weight.double(), weight, atol=1e-5)
    assert torch.allclose(solved.projection(0).bias.double(), bias, atol=1e-5)


def test_a_refit_can_leave_the_first_layers_alone(model: HeadModel, texts: Texts) -> None:
    plain = cut(model, MASK)
    solved, report = refit(model, MASK, texts.inputs, untouched=1)
    assert report.accepted
    for layer in range(3):
        same = torch.equal(solved.projection(layer).weight, plain.projection(layer).weight)
        assert same == (layer == 0)
    # The second layer is solved for what enters it then.
    second = [solve(model, MASK, texts.inputs, untouched=count).projection(1).weight for count in (0, 1)]
    assert not torch.allclose(*second, atol=1e-4)
    # Where sums are unknown it walks as far as a whole pass.
    """The full model's states stayed before its first layer once."""
    walking = replace(model.family, feed_out=None, feed_in=None)
    whole = replace(walking, walks=False, tails=False)
    solved, expected = (
        solve(model.with_network(model.network, family=family), MASK, texts.inputs) for family in (walking, whole)
    )
    for layer in range(3):
        assert torch.allclose(solved.projection(layer).weight, expected.projection(layer).weight, atol=1e-4)


@pytest.mark.parametrize("gains", [True, False])
def test_a_feed_forward_projection_changes_only_where_windows_kept_apart_gain(model: HeadModel, gains: bool) -> None:
    """There are fewer tokens than channels, so a solution learns any noise."""
    pruned = cut(model, MASK)
    feed = pruned.projection(0, "feed_out")
    before = feed.weight.clone()
    draws = torch.Generator().manual_seed(0)
    inputs = torch.randn(8, before.shape[1] // 8, before.shape[1], generator=draws)
    answers = feed.module(inputs)
    wanted = 1.3 * answers if gains else answers + torch.randn(answers.shape, generator=draws)
    equations = recovery._Equations(pruned, 0, "feed_out", checks=True)
    equations.add({"feed_out": inputs}, wanted, torch.ones(inputs.shape[:2], dtype=torch.bool))
    equations.solve(0.1)
    assert torch.equal(feed.weight, before) != gains


def make_refits_by(make: Callable[..., HeadModel], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``refit`` call ``make`` instead of ``solve``, with the same ridges."""
    monkeypatch.setitem(recovery.CLOSED_FORMS, "refit", (make, recovery.CLOSED_FORMS["refit"][1]))  # type: ignore[arg-type]


def spoil(model: HeadModel, mask: HeadMask, inputs: object, **options: object) -> HeadModel:
    """A model whose answers are wrong."""
    spoilt = cut(model, mask)
    for layer in range(model.layers):
        spoilt.projection(layer).weight.mul_(-3.0)
    return spoilt


def test_an_unsupported_refit_is_rejected(model: HeadModel, texts: Texts, monkeypatch: pytest.MonkeyPatch) -> None:
    strengths = []

    def make(*given: Any, ridge: float, **options: object) -> HeadModel:
        strengths.append(ridge)
        return spoil(*given)

    make_refits_by(make, monkeypatch)
    found, report = refit(model, MOST, texts.inputs)
    assert not report.accepted
    assert "the old weights stay" in report.reason
    assert strengths == pytest.approx([0.1, 1.0, 10.0, 100.0])
    assert report.ridge == pytest.approx(100.0)
    assert torch.equal(logits(found, texts), logits(cut(model, MOST), texts))


def test_a_useless_refit_gets_a_stronger_ridge(model: HeadModel, texts: Texts, monkeypatch: pytest.MonkeyPatch) -> None:
    def help_late(*given: Any, ridge: float, **options: Any) -> HeadModel:
        return solve(*given, ridge=ridge, **options) if ridge >= 1 else cut(model, MASK)

    make_refits_by(help_late, monkeypatch)
    found, report = refit(model, MASK, texts.inputs)
    assert (report.accepted, report.ridge) == (True, 1.0)
    expected = solve(model, MASK, choose_inputs(texts.inputs), ridge=1.0)
    assert torch.equal(logits(found, texts), logits(expected, texts))


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_mean_ablation_replaces_the_output_of_a_removed_head_by_its_mean(family: str, tmp_path: Path) -> None:
    full = models.load(str(fakes.save_model(tmp_path, family)), device="cpu")
    keep = np.ones((full.layers, full.heads), dtype=np.bool_)
    keep[0, 1:] = False
    inputs, means = fakes.sentences(20).inputs, []
    for batch in full.batches(full.tokenize(inputs)):
        real, seen = batch.tensors["attention_mask"].bool(), {}
        full.logits(batch, tap=lambda site, layer, x, seen=seen: seen.update({(site, layer): x}))
        means.append(seen["output", 0].reshape(*real.shape, -1)[real])
    mean = torch.cat(means).mean(0)
    size = len(mean) // full.heads
    ablated = mean_ablate(full, HeadMask(keep), inputs)
    output, old = ablated.projection(0), full.projection(0)
    removed = old.weight[:, size:] @ mean[size:]
    assert torch.allclose(output.bias, removed if old.bias is None else old.bias + removed, atol=1e-5)
    assert torch.equal(output.weight, old.weight[:, :size])
    # Other layers keep all heads, so nothing is added to them.
    for layer in range(1, full.layers):
        ours, theirs = (one.projection(layer).bias for one in (ablated, full))
        assert ours is theirs is None or torch.equal(ours, theirs)


def test_mean_ablation_is_never_rejected(model: HeadModel, texts: Texts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recovery.CLOSED_FORMS, "mean", (spoil, (None,)))  # type: ignore[arg-type]
    found, report = refit(model, MOST, texts.inputs, recovery=RECOVERIES["mean"])
    assert (report.kl_before or 0) < (report.kl_after or 0)
    assert (report.accepted, report.verdict) == (True, "applied")
    assert report.reason.endswith(" before")
    assert torch.equal(logits(found, texts), logits(spoil(model, MOST, texts.inputs), texts))


@pytest.mark.parametrize(
    ("there", "expected"),
    [(5, 4), (100, 80), (640, 512), (641, 512), (1476, 512), (1536, 512), (3000, 1000), (9000, 3000), (390000, 4096)],
)
def test_a_refit_works_on_a_third_of_the_texts_within_512_and_4096(there: int, expected: int) -> None:
    inputs = [f"text {row}" for row in range(there)]
    chosen = choose_inputs(inputs)
    assert len(chosen) == len(set(chosen)) == min(refit_texts(there), there - there // 5) == expected
    assert set(chosen) <= {inputs[row] for row in hold_out(inputs)[0]}
    # Choosing the heads takes one and a half on as many texts: the signatures, and gradients of a quarter of them.
    passes = QUICK.passes(there) / there
    assert passes < 2.0 or there < 1536
    assert QUICK.passes(there) == pytest.approx(4.1 * expected + 3 * 0.2 * there)


def test_each_layer_is_the_ridge_regression_on_what_the_full_model_reads(model: HeadModel, texts: Texts) -> None:
    grams = collect_grams(model, texts.inputs)
    solved = solve_at_once(model, MASK, grams, ridge=0.01)
    for layer in range(3):
        rows: list[torch.Tensor] = []

        def watch(site: str, at: int, entering: torch.Tensor, layer: int = layer) -> None:
            if (site, at) == ("output", layer):
                rows.append(entering.reshape(-1, entering.shape[-1])[real.reshape(-1)].double())  # noqa: B023

        for batch in model.batches(model.tokenize(texts.inputs)):
            real = batch.tensors["attention_mask"].bool()
            model.logits(batch, tap=watch)
        inputs = torch.cat(rows)
        full = model.projection(layer)
        wanted = inputs @ full.weight.double().T + full.bias.double()
        kept = torch.as_tensor(np.repeat(MASK.keep[layer], model.card.head_size))
        weight, bias = ridge_of(full, inputs, wanted, kept, 0.01)
        assert torch.allclose(solved.projection(layer).weight.double(), weight, atol=1e-4)
        assert torch.allclose(solved.projection(layer).bias.double(), bias, atol=1e-4)


def test_heads_that_stay_masked_are_solved_for(model: HeadModel, texts: Texts, monkeypatch: pytest.MonkeyPatch) -> None:
    grams = collect_grams(model, texts.inputs)
    wanted = logits(solve_at_once(model, MASK, grams), texts)
    monkeypatch.setattr(model, "family", replace(model.family, no_cut="they share a matrix"))
    masked = solve_at_once(model, MASK, grams)
    assert masked.head_counts == (4, 4, 4)
    torch.testing.assert_close(logits(masked, texts), wanted, atol=1e-4, rtol=1e-4)


BRIEF = Schedule(floor=0.02, epochs=2, learning_rate=1e-3, batch=16)
TEXTS = fakes.sentences(100)
FRESH = fakes.sentences(60, seed=9)
Distilled = tuple[HeadModel, DistillReport]


@pytest.fixture(scope="module")
def start(model: HeadModel) -> HeadModel:
    return cut(model, MASK)


@pytest.fixture(scope="module")
def found(model: HeadModel, start: HeadModel) -> Distilled:
    return distill(model, start, TEXTS.inputs, schedule=BRIEF)


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
    losses: list[torch.Tensor] = []
    made = optimise
    texts = TEXTS.take(range(10))
    learned, _ = hold_out(texts.inputs)
    (batch,) = model.batches(model.tokenize([texts.inputs[row] for row in learned]))
    rows, inputs = torch.as_tensor(batch.rows), batch.tensors

    def observe(network: Any, model: Any, objective: Objective, **options: Any) -> Any:
        losses.append(objective.loss(batch).detach())
        return made(network, model, objective, **options)

    monkeypatch.setattr(recovery, "optimise", observe)
    distill(model, start, texts.inputs, labels=texts.labels, schedule=replace(BRIEF, epochs=1))
    with torch.no_grad():
        mine, full = (one.network(**inputs).logits for one in (start, model))
    soft, hard = (mine / 2).log_softmax(-1), (full / 2).softmax(-1)
    expected = 4 * (hard * (hard.log() - soft)).sum(-1).mean()
    expected += nn.functional.cross_entropy(mine, torch.as_tensor(texts.labels[learned])[rows])
    assert float(losses[0]) == pytest.approx(float(expected), rel=1e-5)


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
        loss = teacher.loss(student, batch, batch.rows)
    assert float(loss) == pytest.approx(teacher.compare(student, batch.rows).text, rel=1e-5)
    assert NEXT_TOKEN.distill_rate == 5e-5


def test_an_epoch_that_repeats_less_well_is_not_kept(
    model: HeadModel, start: HeadModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is nearer on text, and would be rejected at the end."""
    told = iter([(0.2, 1.0), (0.1, 1.1), (0.15, 0.9), (0.18, 0.8), (0.15, 0.9)])
    seen: list[torch.Tensor] = []

    def compare(_: object, student: HeadModel, *__: object, **options: object) -> Divergences:
        # The intercepts of two classes move against each other: their sum stays.
        seen.append(list(student.network.parameters())[-1][0].detach().clone())
        return Divergences(*next(told), agreement=0.5, count=9)

    monkeypatch.setattr(Teacher, "compare", compare)
    _, report = distill(model, start, TEXTS.inputs, schedule=replace(BRIEF, epochs=3))
    assert report.accepted
    assert seen[4] == seen[2] != seen[1]


def test_a_student_that_is_farther_from_its_teacher_is_rejected(model: HeadModel, start: HeadModel) -> None:
    student, wild = distill(model, start, TEXTS.inputs, schedule=replace(BRIEF, epochs=1, learning_rate=3.0))
    assert not wild.accepted
    assert wild.reason.endswith(": the refit stays")
    assert student is start
    hot = replace(BRIEF, epochs=1, learning_rate=1e30)
    student, broken = distill(model, start, TEXTS.inputs, schedule=hot, called="it")
    assert (broken.accepted, student is start) == (False, True)
    assert "finite" in broken.reason
