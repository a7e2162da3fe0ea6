"""Gates against their definitions, and what a training of them finds on a model whose useful heads are known."""

from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
from fakes import gather, quick_method

from cahp import models
from cahp.methods import dsp, l0, passing
from cahp.methods.shared import gates, registry
from cahp.models.head_model import HeadModel
from cahp.models.surgery import separate
from cahp.store import Store
from cahp.values import Cancelled

LAYERS, HEADS = 3, 4
TEXTS = fakes.sentences(320)
NAMES = ("dsp", "dsp-joint", "dsp-straight-through", "l0", "pass")
#: The heads of the tiny model that have a say.
USEFUL = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]], dtype=np.bool_)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> HeadModel:
    """A tiny classifier of which eight heads are dead and each of the others brings the loss down.

    The values and output weights of dead heads are zero, so that training leaves them so. It was trained with heads
    missing at random, so that none of the others is idle; and their output weights were lowered, so that a few of them
    do not suffice.
    """
    made = models.load(str(fakes.save_model(tmp_path_factory.mktemp("models") / "tiny")), device="cpu")
    size, parameters = made.card.head_size, list(made.network.parameters())
    with torch.no_grad():
        for layer, head in np.argwhere(~USEFUL):
            attention, own = made.layer_modules[layer].attention, slice(head * size, (head + 1) * size)
            for part in (attention.output.dense.weight[:, own], attention.self.value.weight[own]):
                part.zero_()
            attention.self.value.bias[own] = 0.0
    made.network.requires_grad_(True)
    generator, labels = torch.Generator().manual_seed(0), torch.as_tensor(TEXTS.labels)
    optimizer = torch.optim.AdamW(parameters, lr=3e-3)
    for _ in range(8):
        for batch in made.batches(made.tokenize(TEXTS.inputs), size=400):
            present = (torch.rand(len(batch), LAYERS, HEADS, generator=generator) < 0.8).float()
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(made.logits(batch, gates=present), labels[batch.rows]).backward()
            optimizer.step()
    optimizer.zero_grad()
    made.network.requires_grad_(False)
    with torch.no_grad():
        for module in made.layer_modules:
            module.attention.output.dense.weight *= 0.15
    return made


def test_relaxed_choices_and_the_falling_temperature_by_hand() -> None:
    # softmax(log(1, 2, 5)) is (1, 2, 5) / 8; then the scores are log(7/8, 12/8, 15/8), which is (7, 12, 15) / 34.
    found = dsp.relaxed_top(torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64).log(), k=2, temperature=1.0)
    assert found.tolist() == pytest.approx([1 / 8 + 7 / 34, 2 / 8 + 12 / 34, 5 / 8 + 15 / 34])
    method = dsp.Dsp(tau_end=0.1)
    found = [method.temperature(behind) for behind in (0.0, 1 / 6, 1 / 3, 2 / 3, 0.8, 1.0)]
    assert found == pytest.approx([1000.0, 100.0, 10.0, 0.1, 0.1, 0.1])


def test_straight_through_gates_are_hard_and_every_parameter_gets_its_gate_s_gradient() -> None:
    scores = torch.tensor([[0.3, -1.0], [2.0, 0.5]], dtype=torch.float64, requires_grad=True)
    found = dsp.straight_through_top(scores, k=2)
    assert found.tolist() == [[0, 0], [1, 1]]
    weights = torch.tensor([[1.0, -2.0], [3.0, -4.0]], dtype=torch.float64)
    (found * weights).sum().backward()
    assert torch.equal(scores.grad, weights)
    # Hard concrete gates, by hand.
    # u = 1/2 leaves sigmoid(a / 0.33); a = 0.33 ln 3 makes it 3/4, and 1.2 * 3/4 - 0.1 = 0.8.
    half = torch.full((5,), 0.5, dtype=torch.float64)
    given = torch.tensor([0.0, 0.33 * np.log(3), -0.33 * np.log(3), 5.0, -5.0], dtype=torch.float64)
    assert gates.hard_concrete(given, half).tolist() == pytest.approx([0.5, 0.8, 0.2, 1.0, 0.0])
    # Noise whose log odds are 0.33 ln 3 does at a = 0 what a does without noise.
    odds = 3**0.33
    assert gates.hard_concrete(given[:1], half[:1] * 0 + odds / (1 + odds)).tolist() == pytest.approx([0.8])


@pytest.mark.parametrize("parameter", [-2.0, -0.4, 0.0, 1.3])
def test_expected_open_and_certainties_agree_with_sampling(parameter: float) -> None:
    draws = 200_000
    uniform = torch.rand(draws, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    given = torch.full((draws,), parameter, dtype=torch.float64)
    sampled = gates.hard_concrete(given, uniform)
    closed, opened = passing.certainties(given[:1])
    # Four standard errors of a share of 200,000 draws.
    assert float(l0.expected_open(given[:1])) == pytest.approx(float((sampled > 0).double().mean()), abs=0.0045)
    assert float(closed) == pytest.approx(float((sampled == 0).double().mean()), abs=0.0045)
    assert float(opened) == pytest.approx(float((sampled == 1).double().mean()), abs=0.0045)


def test_pass_s_deviations_by_hand() -> None:
    # At a = 0 a gate is as likely surely closed as surely open: sigmoid(-0.33 ln 11) = 1 / (1 + 11 ** 0.33).
    edge = 1 / (1 + 11**0.33)
    parameters = torch.tensor([[0.0, 0.0], [40.0, -40.0]], dtype=torch.float64)
    found = [float(term) for term in passing.deviations(parameters, kept=1)]
    assert found == pytest.approx([3 - (2 * edge + 1), abs(1 - (2 * edge + 1)), 2 * (1 - 2 * edge)])
    # Reopening cuts all gates, and opens closed ones by chance.
    given = torch.tensor([9.0, -9.0, -9.0, 0.2, -0.5, -2.0])
    chance = torch.tensor([1.0, 1.0, 0.3, 1.0, 1.0, 0.6], dtype=torch.float64)
    uniform = torch.full((6,), 0.5, dtype=torch.float64)
    # -0.5 is not closed: its gate is 0 with sigmoid(0.5 - 0.791) < 1/2.
    assert passing.reopen(given, chance, uniform).tolist() == pytest.approx([5.0, 0.0, -5.0, 0.2, -0.5, 0.0])
    # The pressure grows with the steps that miss, and only with these.
    pressure = passing.Pressure(kept=1, rise=3)
    missing = torch.tensor([[0.0, 0.0], [40.0, -40.0]], dtype=torch.float64)
    met = torch.tensor([[-40.0, -40.0], [40.0, -40.0]], dtype=torch.float64)
    strengths = []
    for parameters in (missing, met, missing, met, missing, met):
        strengths.append(pressure.strength)
        assert float(pressure(parameters)) == pytest.approx(
            strengths[-1] * float(sum(passing.deviations(parameters, kept=1))), abs=1e-12
        )
    assert strengths == pytest.approx([1e-5, 1e-4, 1e-4, 1e-3, 1e-3, 1e-2])


def test_gates_reopen_thrice_and_never_late(model: HeadModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, torch.Tensor]] = []
    done = [0]
    plain = passing.reopen

    def watch(stage: str, step: int, total: int) -> None:
        done[0] = step if stage == gates.STAGE else done[0]

    def spy(parameters: torch.Tensor, chance: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        seen.append((done[0] + 1, chance))
        return plain(parameters, chance, uniform)

    monkeypatch.setattr(passing, "reopen", spy)
    made = gather(model, TEXTS, tmp_path, progress=watch)
    passing.Pass(steps=12).choose(made, budget=6)
    assert [step for step, _ in seen] == [2, 4, 6]
    sure = registry.get("confidence").score(made)
    assert np.allclose(seen[0][1].numpy(), sure / sure.max())


@pytest.mark.parametrize(
    ("name", "options"),
    [("dsp", {}), ("dsp-joint", {}), ("dsp-straight-through", {}), ("l0", {"steps": 60}), ("pass", {"steps": 100})],
)
def test_useful_heads_stay_and_dead_ones_go(
    name: str, options: dict[str, Any], model: HeadModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for method in (dsp.Dsp, dsp.JointDsp):
        monkeypatch.setattr(method, "epochs", 4)
    made = gather(model, TEXTS, tmp_path, seed=1)
    # One mask of 495 is right by chance.
    assert np.array_equal(registry.get(name, **options).choose(made, budget=4, min_per_layer=0).mask.keep, USEFUL)


@pytest.mark.parametrize("name", NAMES)
def test_a_training_can_be_cancelled_at_any_step(name: str, model: HeadModel, tmp_path: Path) -> None:
    steps: list[int] = []

    def stop(stage: str, done: int, total: int) -> None:
        # The third step, once.
        if stage == gates.STAGE and len(steps) < 3:
            steps.append(done)
            if done == 2:
                raise Cancelled

    few = TEXTS.take(range(128))
    made = gather(model, few, tmp_path, progress=stop)
    method = quick_method(name)
    with pytest.raises(Cancelled):
        method.choose(made, budget=6)
    assert steps == [0, 1, 2]
    # Nothing half-trained is remembered.
    assert np.array_equal(method.train(made, budget=6), method.train(gather(model, few, tmp_path / "b"), budget=6))


@pytest.mark.parametrize("name", NAMES)
def test_a_training_is_remembered_with_its_options(name: str, model: HeadModel, tmp_path: Path) -> None:
    few = TEXTS.take(range(64))
    first = quick_method(name).train(gather(model, few, tmp_path), budget=6)
    unread = fakes.evidence(model.card, few, Store(tmp_path), load=fakes.unread)
    found = quick_method(name).train(unread, budget=6)
    assert np.array_equal(first, found)
    other = quick_method(name, learning_rate=0.03).train(gather(model, few, tmp_path), budget=6)
    assert not np.array_equal(first, other)


def test_the_joint_training_moves_the_weights_of_its_copy(model: HeadModel, monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[HeadModel] = []
    monkeypatch.setattr("cahp.models.surgery.separate", lambda given: copies.append(separate(given)) or copies[-1])
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}

    def draw(given: torch.Tensor, *_: object) -> torch.Tensor:
        # With dropout, in the copy alone.
        assert copies[-1].network.training
        assert not model.network.training
        return given * 0 + 1

    gates.train_gates(model, TEXTS, gates.GateRules(draw, joint=True), learning_rate=0.5, steps=3, seed=0)
    states = [one.network.state_dict() for one in (model, *copies)]
    ours, copied = ([name for name in before if not torch.equal(state[name], before[name])] for state in states)
    assert ours == []
    assert any("attention" in name for name in copied)
    assert any("classifier" in name for name in copied)
