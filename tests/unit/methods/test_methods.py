"""What every registered method promises."""

import math
from itertools import pairwise
from pathlib import Path

import fakes
import numpy as np
import pytest
import torch
from fakes import gather, quick_method
from safetensors.numpy import load_file

import cahp
from cahp import models
from cahp.comparison.plan import make_plan
from cahp.methods.shared import registry
from cahp.methods.shared.scored import draw_texts, normalise_layers, round_sizes
from cahp.models.cards import SelectionCost
from cahp.models.head_model import HeadModel
from cahp.run.bench import Bench
from cahp.run.evidence import HeadEvidence
from cahp.stages.selection import Minimum
from cahp.store import Store
from cahp.tasks.texts import Texts
from cahp.values import BudgetError, Cancelled, OptionError, digest

METHOD = type(registry.get("random"))
LAYERS, HEADS = 3, 4
TOTAL = LAYERS * HEADS
TEXTS = fakes.sentences(48)
NAMES = registry.names()
LEARNED = [name for name in NAMES if registry.facts(name).learned]
#: Layer 0 and 1 keep three heads, and what is left of seven goes to layer 2.
FIRST = np.array([3, 3, 1])
POST_HOC = [name for name in NAMES if name not in LEARNED]
#: They take no pass of the model, as their docstrings say.
FREE = [name for name in POST_HOC if "Cost: no forward passes" in " ".join(str(registry.get(name).__doc__).split())]


def unread(model: HeadModel, folder: Path) -> HeadEvidence:
    """Evidence whose model must not be asked for."""
    return fakes.evidence(model.card, TEXTS, Store(folder), load=fakes.unread)


@pytest.fixture(scope="module")
def lasting(model: HeadModel, tmp_path_factory: pytest.TempPathFactory) -> HeadEvidence:
    """Evidence that lasts, for tests to which it does not matter what is remembered."""
    return gather(model, TEXTS, tmp_path_factory.mktemp("lasting"))


def test_two_methods_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two methods are named 'random'"):
        registry.register(type(registry.get("random")))
    with pytest.raises(OptionError, match="two methods are named 'random'; rename one"):
        cahp.Settings(method=type("Other", (METHOD,), {"name": "random"}))
    # An unknown name is answered with all that there are.
    for asked in (registry.get, registry.facts):
        with pytest.raises(OptionError, match=r"there is no method 'best'.*ablation, .*random-per-layer"):
            asked("best")


def test_a_class_or_an_object_stands_for_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_methods", dict(registry._methods))
    # A cell of a notebook that is run again makes another class of the same name.
    for _ in range(2):
        own = type("Own", (METHOD,), {"name": "own"})
        assert cahp.Settings(method=own).method == cahp.Settings(method=own()).method == "own"
        assert type(cahp.methods.get("own")) is own
    assert make_plan(cahp.Settings(), methods=[own, "random"]).methods == ("own", "random")
    assert cahp.Settings(method="cahp").method == "complementary"
    tuned = registry._methods["hies"]
    assert cahp.Settings(method=tuned()).method == "hies"
    with pytest.raises(OptionError, match="a run has no place for options of ImportanceEntropy; derive a class"):
        cahp.Settings(method=tuned(alpha=0.1))
    with pytest.raises(OptionError, match="--method cannot be 3"):
        cahp.prune("minilm-bbc", method=3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "budget", "floor"),
    [
        *((name, *spent) for name in POST_HOC for spent in [(2, 0), (7, 2), (9, 3), (10, 3), (12, 1), (7, FIRST)]),
        # Learning takes a while.
        *((name, *spent) for name in LEARNED for spent in [(7, 2), (7, FIRST)]),
    ],
)
def test_every_budget_is_met_above_every_floor(lasting: HeadEvidence, name: str, budget: int, floor: Minimum) -> None:
    chosen = quick_method(name).choose(lasting, budget=budget, min_per_layer=floor)
    assert chosen.mask.keep.shape == (LAYERS, HEADS)
    assert chosen.mask.count == chosen.requested == budget
    # With a floor of an equal share of the budget, as many in each layer: an even selection.
    assert (chosen.mask.keep.sum(axis=1) >= floor).all()
    assert set(chosen.rescued) <= set(chosen.mask.flat)


@pytest.mark.parametrize("name", NAMES)
def test_impossible_requests_are_refused(model: HeadModel, lasting: HeadEvidence, tmp_path: Path, name: str) -> None:
    method = registry.get(name)
    evidence = lasting
    if method.needs_budget:
        # Before anything is measured.
        evidence = unread(model, tmp_path)
        with pytest.raises(OptionError, match="give a budget"):
            method.choose(evidence, budget=None)
    for budget, floor in [(TOTAL + 1, 1), (LAYERS - 1, 1), (5, 2)]:
        with pytest.raises(BudgetError, match=f"budget {budget} is outside"):
            method.choose(evidence, budget=budget, min_per_layer=floor)
    with pytest.raises(OptionError, match="0 to 4"):
        method.choose(evidence, budget=6, min_per_layer=5)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_mask_and_changes_no_model(model: HeadModel, tmp_path: Path, name: str) -> None:
    def state() -> str:
        return digest(*(value.numpy().tobytes() for value in model.network.state_dict().values()))

    before, rng = state(), torch.get_rng_state()
    first, second = (
        quick_method(name).choose(gather(model, TEXTS, tmp_path / part, seed=3), budget=6) for part in ("a", "b")
    )
    assert first.mask.flat == second.mask.flat
    assert state() == before
    assert torch.equal(torch.get_rng_state(), rng)
    assert not model.network.training
    assert not any(weight.requires_grad or weight.grad is not None for weight in model.network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_price_is_known_before_the_model_is_read(model: HeadModel, tmp_path: Path, name: str) -> None:
    evidence = unread(model, tmp_path)
    price = registry.get(name).estimate_cost  # type: ignore[attr-defined]
    prices = [price(evidence, budget=budget) for budget in range(3, TOTAL + 1)]
    for one in prices:
        assert np.isfinite(one.forwards)
        assert one.forwards >= 0
        assert 0 <= one.labels <= len(TEXTS)
        assert not one.labels or one.forwards >= one.labels
    # Fewer heads to keep are never cheaper to find.
    assert all(more.forwards >= less.forwards for more, less in pairwise(prices))


@pytest.mark.parametrize(
    ("name", "forwards", "labels"),
    [
        ("random", 0, 0),
        ("random-even", 0, 0),
        ("random-in-cluster", 48, 48),
        ("random-per-layer", 48 + 2 * 32, 48),
        ("complementary", 48 + 2 * 32, 48),
        ("magnitude", 0, 0),
        ("magnitude-raw", 0, 0),
        # The first of two batches is a quarter, rounded up.
        ("salience", 3 * 32, 32),
        ("gradient", 3 * 48, 48),
        # From 12 to 6 heads, one a round.
        ("gradient-iterated", 6 * 3 * 48, 48),
        ("facility", 4 * 48, 48),
        ("fisher", 3 * 48, 48),
        ("fisher-output", 3 * 48, 0),
        ("fisher-layers", 3 * 48, 0),
        ("obs-fisher", 3 * 48, 0),
        ("attattr", 48 * (1 + 3 * 20 * 3), 48),
        ("hies", 4 * 48, 48),
        ("confidence", 48, 0),
        ("confidence-no-special", 48, 0),
        ("ablation", 48 * 13, 48),
        ("ablation-greedy", 48 * (13 + 12 + 11 + 10 + 9 + 8), 48),
        # Steps of three passes: those of an epoch or three, six trainings of 100, and 200. Of 48 texts, batches of 32
        # and 16 take turns.
        ("dsp", 3 * 48, 48),
        ("dsp-joint", 3 * 3 * 48, 48),
        ("dsp-straight-through", 3 * 48, 48),
        ("l0", 6 * 3 * 24 * 100, 48),
        ("pass", 3 * 24 * 200 + 48, 48),
    ],
)
def test_prices_count_passes_as_the_work_is_done(lasting: HeadEvidence, name: str, forwards: int, labels: int) -> None:
    assert registry.get(name).estimate_cost(lasting, budget=6) == SelectionCost(forwards, labels)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name", ["confidence", "confidence-no-special", "fisher-output", "fisher-layers", "obs-fisher", *FREE]
)
def test_a_method_that_prices_no_labels_uses_none(model: HeadModel, tmp_path: Path, name: str) -> None:
    other = Texts(TEXTS.first, None, 1 - TEXTS.labels, TEXTS.classes)
    masks = [registry.get(name).choose(gather(model, some, tmp_path), budget=6).mask.flat for some in (TEXTS, other)]
    assert registry.get(name).estimate_cost(gather(model, TEXTS, tmp_path), budget=6).labels == 0  # type: ignore[attr-defined]
    assert masks[0] == masks[1]


@pytest.mark.parametrize("name", [name for name in POST_HOC if name not in FREE])
def test_what_was_measured_once_is_not_measured_again(model: HeadModel, tmp_path: Path, name: str) -> None:
    first = registry.get(name).choose(gather(model, TEXTS, tmp_path), budget=6)
    again = registry.get(name).choose(unread(model, tmp_path), budget=6)
    assert again.mask.flat == first.mask.flat


@pytest.mark.parametrize("name", [name for name in POST_HOC if name not in FREE])
def test_progress_rises_to_the_end_and_may_stop_the_work(model: HeadModel, tmp_path: Path, name: str) -> None:
    last: dict[str, tuple[int, int]] = {}

    def watch(stage: str, done: int, total: int) -> None:
        assert last.get(stage, (0, total))[0] <= done <= total
        last[stage] = (done, total)

    if name == "hies":
        # Two passes, one after the other, under one name.
        registry.get("gradient").choose(gather(model, TEXTS, tmp_path), budget=6)
    registry.get(name).choose(gather(model, TEXTS, tmp_path, progress=watch), budget=6)
    assert last
    assert all(done == total for done, total in last.values())
    with pytest.raises(Cancelled):
        registry.get(name).choose(gather(model, TEXTS, tmp_path / "new", progress=fakes.stop_at()), budget=6)


@pytest.mark.parametrize("name", [name for name in POST_HOC if len(registry.facts(name).tries) > 1])
def test_every_try_can_be_made_and_the_first_is_the_default(lasting: HeadEvidence, name: str) -> None:
    tries = registry.facts(name).tries
    default = registry.get(name).choose(lasting, budget=6).mask.flat
    assert registry.get(name, **tries[0]).choose(lasting, budget=6).mask.flat == default
    for options in tries[1:]:
        assert registry.get(name, **options).choose(lasting, budget=6).mask.count == 6


@pytest.mark.parametrize("family", fakes.rarely(fakes.SHAPES))
def test_scores_serve_every_architecture(tmp_path: Path, family: str) -> None:
    other = models.load(str(fakes.save_model(tmp_path / "model", family)), device="cpu")
    evidence = gather(other, fakes.sentences(8), tmp_path / "store")
    for name in ("hies", "confidence", "confidence-no-special", "magnitude", "ablation", "fisher-output", "obs-fisher"):
        score = registry.get(name).score(evidence)  # type: ignore[attr-defined]
        assert score.shape == (other.layers, other.heads)
        assert np.isfinite(score).all()
        assert score.std() > 0


def test_whole_layers_go_first_where_their_heads_matter_least_together(lasting: HeadEvidence) -> None:
    costs = lasting.moments.products
    cheapest, *_, dearest = np.argsort(costs.sum(axis=(1, 2)))
    method, heads = registry.get("fisher-layers"), costs.shape[1]
    kept = method.choose(lasting, budget=costs.shape[0] * heads - heads - 1, min_per_layer=0).mask.keep.sum(axis=1)
    # A whole layer, and one head of the next.
    assert kept[cheapest] == 0
    assert sorted(kept)[1] == heads - 1
    assert method.choose(lasting, budget=heads, min_per_layer=0).mask.keep[dearest].all()
    assert method.choose(lasting, budget=heads, min_per_layer=1).mask.keep.any(axis=1).all()


@pytest.mark.parametrize("name", POST_HOC)
def test_a_language_model_keeps_as_many_heads_as_asked(window_bench: Bench, name: str) -> None:
    chosen = quick_method(name).choose(window_bench.evidence, budget=7, min_per_layer=1)
    assert chosen.mask.count == 7
    assert not chosen.mask.empty_layers


@pytest.mark.parametrize(
    ("total", "budget", "share", "sizes"),
    [
        (72, 20, 0.1, [65, 58, 51, 44, 37, 30, 23, 20]),
        (144, 116, 0.1, [130, 116]),
        (72, 63, 0.05, [68, 64, 63]),
        (12, 10, 0.05, [11, 10]),
        (12, 12, 0.1, []),
    ],
)
def test_rounds_remove_a_share_and_at_last_the_rest(total: int, budget: int, share: float, sizes: list[int]) -> None:
    assert round_sizes(total, budget, share=share) == sizes


def test_texts_are_drawn_by_the_seed_and_stay_in_order(model: HeadModel, tmp_path: Path) -> None:
    texts = fakes.sentences(60)
    assert draw_texts(gather(model, texts, tmp_path), most=60) is texts
    numbered = Texts(tuple(map(str, range(60))), None, texts.labels, texts.classes)

    def rows(seed: int) -> list[int]:
        return [int(text) for text in draw_texts(gather(model, numbered, tmp_path, seed=seed), most=20).first]

    assert rows(1) == sorted(set(rows(1)))
    assert len(rows(1)) == 20
    assert rows(1) == rows(1)
    assert rows(1) != rows(2)


def test_a_layer_of_zeros_stays_zero_when_scaled() -> None:
    assert normalise_layers(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist() == [[0.6, 0.8], [0.0, 0.0]]


WEIGHTS = {
    "bert": ("bert.encoder.layer.{}.attention.", ("self.query", "self.key", "self.value"), "output.dense"),
    "distilbert": ("distilbert.transformer.layer.{}.attention.", ("q_lin", "k_lin", "v_lin"), "out_lin"),
}


@pytest.mark.parametrize("family", list(WEIGHTS))
def test_magnitude_is_the_norm_of_a_head_s_slices(tmp_path: Path, family: str) -> None:
    folder = fakes.save_model(tmp_path / "model", family)
    weights = load_file(folder / "model.safetensors")
    path, inputs, output = WEIGHTS[family]
    expected = np.zeros((3, 4))
    for layer in range(3):
        for head in range(4):
            own = slice(8 * head, 8 * head + 8)
            parts = [weights[f"{path.format(layer)}{name}.weight"][own] for name in inputs]
            parts.append(weights[f"{path.format(layer)}{output}.weight"][:, own])
            expected[layer, head] = math.sqrt(sum(float(value) ** 2 for part in parts for value in part.flat))
    model = models.load(str(folder), device="cpu")
    bench = fakes.gather(model, fakes.sentences(4), tmp_path / "store")
    raw, relative = (
        registry.get(name).score(bench)  # type: ignore[attr-defined]
        for name in ("magnitude-raw", "magnitude")
    )
    assert np.allclose(raw, expected, rtol=1e-6)
    assert np.allclose(relative, [row / math.sqrt(sum(row**2)) for row in expected], rtol=1e-6)
    assert np.allclose((relative**2).sum(axis=1), 1)
