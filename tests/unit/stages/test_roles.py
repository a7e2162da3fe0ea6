"""Roles are found in a model whose heads were set by hand, and not in random ones."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import copying
import fakes
import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from cahp import models
from cahp.models.head_model import HeadModel
from cahp.stages import roles as head_roles
from cahp.values import Bools, Floats, Progress
from cahp.values.head_roles import NO_ROLE, HeadRoles


def compute(name: str, measure: Callable[[], Floats]) -> Floats:
    return measure()


@pytest.fixture(scope="module")
def copier(tmp_path_factory: pytest.TempPathFactory) -> HeadModel:
    return models.load(str(copying.save_copying_model(tmp_path_factory.mktemp("copying") / "model")))


@pytest.fixture(scope="module")
def found(copier: HeadModel) -> HeadRoles:
    return head_roles.measure_roles(copier)


def test_heads_that_were_set_by_hand_have_their_roles(found: HeadRoles) -> None:
    assert found.names == copying.ROLES
    assert found.scores["induction"].value[2] > 0.99
    assert found.scores["previous"].value[0] > 0.99
    assert found.scores["induction"].n == 16


def test_ablation_removes_a_role_s_heads_and_others_of_their_layers(copier: HeadModel, found: HeadRoles) -> None:
    assert found.ablations is None
    ablations = {one.role: one for one in head_roles.ablate_roles(copier, found, cached=compute).ablations or ()}
    assert list(ablations) == ["induction", "previous", "first"]
    induction = ablations["induction"]
    # Without its induction head it repeats the token that it reads, whatever constant is in its place.
    assert induction.without.value > 5
    assert induction.zero.value > 5
    # The layer's only other head, which does nothing.
    assert induction.random is not None
    assert induction.random.value == pytest.approx(0, abs=0.01)
    assert (induction.sets, induction.drawn) == (1, 1)
    # One set cannot reach p = 0.05.
    assert (induction.p, induction.corrected, induction.confirmed) == (None, None, False)
    # The head that attends to the first token writes the same at each query, as its mean does.
    assert ablations["first"].without.value == pytest.approx(0, abs=1e-3)


def test_a_role_is_confirmed_where_hardly_a_set_costs_more(copier: HeadModel, monkeypatch: pytest.MonkeyPatch) -> None:
    # Three layers of eight heads: two induction heads in the first and the last, a layer of first-token heads.
    names = np.full((3, 8), "none", dtype=object)
    names[:, 2:4], names[0, 5], names[1] = "induction", "previous", "first"
    roles = copying.roles_of(*names.ravel(), heads=8)
    own = (names == "induction").sum()

    def count(
        model: HeadModel,
        probes: list[head_roles.Probe],
        keeps: Bools,
        means: list[head_roles.Probe],
        progress: Progress,
    ) -> Floats:
        # The loss is the number of removed induction heads, and differs a little between sequences.
        removed = np.zeros((len(keeps), 1))
        if not keeps.all():
            removed = (~keeps[:, names == "induction"]).sum(axis=1, keepdims=True)
        return removed + np.array([0, 0.1, 0.2])

    monkeypatch.setattr("cahp.stages.roles._losses", count)
    ablations = {one.role: one for one in head_roles.ablate_roles(copier, roles, cached=compute).ablations or ()}
    induction = ablations["induction"]
    # 15 pairs of other heads in each of two layers.
    assert (induction.heads, induction.sets, induction.drawn) == (own, 15**2, 199)
    assert (induction.p, induction.random.value) == (0.005, 0)
    # Neither the seven sets of the previous-token head nor the first-token heads take a share of the correction.
    assert induction.corrected == 0.005
    assert induction.confirmed
    tested = [(one.sets, one.p, one.confirmed) for one in (ablations["previous"], ablations["first"])]
    assert tested == [(7, None, False), (0, None, False)]


@pytest.mark.parametrize(
    ("counts", "sets", "by_layer"),
    [
        # All sets, with as many heads of each layer.
        ([1, 0, 1], 4, {(1, 0, 1)}),
        # Layer 1 has one other head, so layer 0 or layer 2 gives both of theirs.
        ([1, 2, 1], 4, {(2, 1, 1), (1, 1, 2)}),
        # Layers whose heads mostly have the role.
        ([3, 0, 1], 0, set()),
    ],
)
def test_sets_hold_other_heads_of_the_same_layers(counts: list[int], sets: int, by_layer: set[tuple[int]]) -> None:
    own = np.arange(3) < np.array(counts)[:, None]
    drawn, number = head_roles.draw_other_heads(own, 199, np.random.default_rng(0))
    assert len(drawn) == number == sets
    assert not (drawn & own).any()
    assert {tuple(one) for one in drawn.sum(axis=2).tolist()} == by_layer


def test_random_sets_are_drawn_where_there_are_many() -> None:
    own = np.arange(8) < np.array([3, 3, 3])[:, None]
    drawn, number = head_roles.draw_other_heads(own, 199, np.random.default_rng(0))
    # Triples of five heads in each layer.
    assert (len(drawn), number) == (199, 1000)
    assert drawn.mean(axis=0)[1] == pytest.approx([0] * 3 + [3 / 5] * 5, abs=0.12)


def test_other_sequences_confirm_roles_than_assign_them(copier: HeadModel) -> None:
    def draw(kind: head_roles.Draw) -> set[bytes]:
        listed = [*head_roles.draw_copies(copier, kind), *head_roles.ask_questions(reader(), kind)[0]]
        assert len(listed) == kind.sequences + len(head_roles.TEMPLATES) * kind.texts
        return {probe.ids.tobytes() for probe in listed}

    assert not draw(head_roles.ASSIGNING) & draw(head_roles.CONFIRMING)


def reader() -> SimpleNamespace:
    """A model whose tokenizer knows each word of the questions."""
    said = " ".join(f"{' '.join(template.filler)} {template.facts}" for template in head_roles.TEMPLATES)
    words = {word: number for number, word in enumerate(sorted(set(re.findall(r"\w+|[^\w\s]+", said))))}
    backend = Tokenizer(WordLevel({**words, "[UNK]": len(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = Whitespace()
    embeddings = SimpleNamespace(num_embeddings=len(words) + 1)
    return SimpleNamespace(
        card=SimpleNamespace(no_next_token=""),
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=backend),
        longest_context=512,
        network=SimpleNamespace(get_input_embeddings=lambda: embeddings),
    )


def test_facts_are_asked_for_in_each_template_as_often(found: HeadRoles) -> None:
    probes, reason = head_roles.ask_questions(reader())
    assert not reason
    assert [probe.template for probe in probes] == ["statements", "notes", "interview"] * 3
    for probe in probes:
        queries, answers = np.nonzero(probe.targets["retrieval"])
        assert sorted(queries) == sorted(probe.asked)
        assert (probe.ids[answers] == probe.ids[queries + 1]).all()
        # All facts of the text are candidates for each question.
        assert (np.nonzero(probe.candidates[probe.asked])[1].reshape(4, 4) == sorted(answers)).all()


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "modernbert", "deberta-v2"])
def test_random_weights_have_no_roles(family: str, tmp_path: Path) -> None:
    save = fakes.save_language_model if family in ("llama", "gpt2") else fakes.save_model
    model = models.load(str(save(tmp_path / family, family=family)))
    roles = head_roles.measure_roles(model)
    assert set(roles.names) == {NO_ROLE}
    assert len(roles.norms) == model.layers * model.heads * model.card.group
    expected = {"duplicate", "previous", "current", "first"} | ({"induction"} if save != fakes.save_model else set())
    assert set(roles.scores) == expected
    assert set(roles.unmeasured) == {"retrieval", "induction"} - expected


def test_questions_need_a_tokenizer_that_knows_their_words(copier: HeadModel, tmp_path: Path) -> None:
    assert head_roles.ask_questions(copier)[1].startswith("its tokenizer does not know the words of the questions")
    classifier = models.load(str(fakes.save_model(tmp_path / "classifier")))
    assert head_roles.ask_questions(classifier) == ([], "it is not a causal language model")
