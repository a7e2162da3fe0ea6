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
from cahp.stages.roles import (
    ASSIGNING,
    CONFIRMING,
    TEMPLATES,
    Draw,
    Probe,
    ablate_roles,
    ask_questions,
    draw_copies,
    draw_within_layers,
    measure_roles,
)
from cahp.values import Bools, Floats, Progress
from cahp.values.head_roles import NO_ROLE, HeadRoles


def compute(name: str, measure: Callable[[], Floats]) -> Floats:
    return measure()


@pytest.fixture(scope="module")
def copier(tmp_path_factory: pytest.TempPathFactory) -> HeadModel:
    return models.load(str(copying.save_copying_model(tmp_path_factory.mktemp("copying") / "model")))


@pytest.fixture(scope="module")
def found(copier: HeadModel) -> HeadRoles:
    return measure_roles(copier)


def test_heads_that_were_set_by_hand_have_their_roles(found: HeadRoles) -> None:
    assert found.names == copying.ROLES
    assert found.scores["induction"].value[2] > 0.99
    assert found.scores["previous"].value[0] > 0.99
    assert found.scores["induction"].n == 16


def test_ablation_removes_a_role_s_heads_and_random_ones_of_their_layers(copier: HeadModel, found: HeadRoles) -> None:
    assert found.ablations is None
    ablations = {one.role: one for one in ablate_roles(copier, found, cached=compute).ablations or ()}
    assert list(ablations) == ["induction", "previous", "first"]
    induction = ablations["induction"]
    # Without its induction head it repeats the token that it reads.
    assert induction.without.value > 5
    # Its layer has one other head, which does nothing: every second set is its own, so nothing is confirmed.
    assert (induction.sets, induction.free_heads) == (2, 1)
    assert induction.p == pytest.approx(0.5, abs=0.1)
    assert not induction.confirmed


def test_a_role_is_confirmed_where_hardly_a_set_costs_more(copier: HeadModel, monkeypatch: pytest.MonkeyPatch) -> None:
    # Three layers of eight heads: two induction heads in the first and the last, a layer of first-token heads.
    names = np.full((3, 8), "none", dtype=object)
    names[:, 2:4], names[0, 5], names[1] = "induction", "previous", "first"
    roles = copying.roles_of(*names.ravel(), heads=8)
    own = (names == "induction").sum()

    def count(model: HeadModel, probes: list[Probe], keeps: Bools, progress: Progress) -> Floats:
        # The loss is the number of removed induction heads, and differs a little between sequences.
        removed = np.zeros((len(keeps), 1))
        if not keeps.all():
            removed = (~keeps[:, names == "induction"]).sum(axis=1, keepdims=True)
        return removed + np.array([0, 0.1, 0.2])

    monkeypatch.setattr("cahp.stages.roles._losses", count)
    ablations = {one.role: one for one in ablate_roles(copier, roles, cached=compute).ablations or ()}
    induction = ablations["induction"]
    # 28 pairs in each of two layers, of which one is the role's own.
    assert (induction.heads, induction.sets) == (own, 28**2)
    assert induction.p == 0.005
    assert induction.corrected == 0.01
    assert induction.confirmed
    # Random pairs have a quarter of the two heads of each layer.
    assert induction.random.value == pytest.approx(2 * 2 / 4, abs=0.2)
    assert ablations["previous"].p == 1.0
    assert not ablations["previous"].confirmed
    first = ablations["first"]
    assert (first.sets, first.p, first.confirmed, first.free_heads) == (1, None, False, 0)


def test_random_sets_have_as_many_heads_of_each_layer_as_the_role() -> None:
    own = np.zeros((4, 3), dtype=np.bool_)
    own[1, 0] = own[2, 1:] = own[3] = True
    found = draw_within_layers(own, 199, np.random.default_rng(0))
    assert found.shape == (199, 4, 3)
    assert (found.sum(axis=2) == [0, 1, 2, 3]).all()
    # Three heads of layer 1, three pairs of layer 2, and no other choice in layer 3.
    assert found.mean(axis=0)[1:3] == pytest.approx(np.array([[1 / 3] * 3, [2 / 3] * 3]), abs=0.12)
    assert len(np.unique(found.reshape(199, -1), axis=0)) == 9
    assert len(draw_within_layers(np.ones((2, 2), dtype=np.bool_), 199, np.random.default_rng(0))) == 0


def test_other_sequences_confirm_roles_than_assign_them(copier: HeadModel) -> None:
    def draw(kind: Draw) -> set[bytes]:
        listed = [*draw_copies(copier, kind), *ask_questions(reader(), kind)[0]]
        assert len(listed) == kind.sequences + len(TEMPLATES) * kind.texts
        return {probe.ids.tobytes() for probe in listed}

    assert not draw(ASSIGNING) & draw(CONFIRMING)


def reader() -> SimpleNamespace:
    """A model whose tokenizer knows each word of the questions."""
    said = " ".join(f"{' '.join(template.filler)} {template.facts}" for template in TEMPLATES)
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
    probes, reason = ask_questions(reader())
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
    roles = measure_roles(model)
    assert set(roles.names) == {NO_ROLE}
    assert len(roles.norms) == model.layers * model.heads * model.card.group
    expected = {"duplicate", "previous", "current", "first"} | ({"induction"} if save != fakes.save_model else set())
    assert set(roles.scores) == expected
    assert set(roles.unmeasured) == {"retrieval", "induction"} - expected


def test_questions_need_a_tokenizer_that_knows_their_words(copier: HeadModel, tmp_path: Path) -> None:
    assert ask_questions(copier)[1].startswith("its tokenizer does not know the words of the questions")
    classifier = models.load(str(fakes.save_model(tmp_path / "classifier")))
    assert ask_questions(classifier) == ([], "it is not a causal language model")
