"""Roles are found in a model whose heads were set by hand, and not in random ones."""

from __future__ import annotations

from pathlib import Path

import copying
import fakes
import numpy as np
import pytest

from cahp import models
from cahp.models.head_model import HeadModel
from cahp.stages.roles import ablate_roles, ask_questions, draw_copies, measure_roles
from cahp.values import Cancelled, ModelError
from cahp.values.head_roles import NO_ROLE, HeadRoles

pytestmark = pytest.mark.usefixtures("one_thread")


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


def test_ablation_confirms_the_heads_that_copy_and_no_others(copier: HeadModel, found: HeadRoles) -> None:
    assert found.ablations is None
    ablations = {one.role: one for one in ablate_roles(copier, found).ablations or ()}
    assert {role: one.confirmed for role, one in ablations.items()} == {
        "induction": True,
        "previous": True,
        "first": False,
    }
    # It copies without an error, and without its induction head repeats the token that it reads.
    assert ablations["induction"].full.value < 0.01
    assert ablations["induction"].without.value > 5
    # There are three other heads to remove instead.
    assert ablations["induction"].draws == 3


def test_the_output_norm_is_relative_to_the_layer(found: HeadRoles) -> None:
    norms = np.array(found.norms).reshape(2, 2)
    assert norms.mean(axis=1) == pytest.approx([1, 1], abs=1e-3)
    # The heads without a task write a thousandth.
    assert (norms[:, 1] < 0.02).all()
    assert found.unit_norms == found.norms


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


def test_scores_of_a_group_are_those_of_its_query_heads(tmp_path: Path) -> None:
    model = models.load(str(fakes.save_language_model(tmp_path / "model", family="llama")))
    roles, seen = measure_roles(model), []
    probe = draw_copies(model)[0]
    (batch,) = model.batches([{"input_ids": probe.ids.tolist(), "attention_mask": [1] * len(probe.ids)}])
    model.logits(batch, probe=lambda layer, weights: seen.append(weights[0]))
    assert model.card.group == 2
    assert len(roles.scores["first"].value) == 2 * len(roles.names)
    # Means of a group's query heads are what a probe sees; one sequence is near the mean over all.
    groups = np.array(roles.scores["first"].value).reshape(-1, 2).mean(axis=1)
    alone = np.concatenate([maps[:, 2:, 0].mean(dim=1).numpy() for maps in seen])
    assert np.corrcoef(groups, alone)[0, 1] > 0.9


def test_sequences_repeat_different_tokens_after_the_start_token(copier: HeadModel) -> None:
    for probe in draw_copies(copier):
        half = (len(probe.ids) - 1) // 2
        assert probe.ids[0] == 2
        assert (probe.ids[1 : half + 1] == probe.ids[half + 1 :]).all()
        assert len(set(probe.ids[1 : half + 1].tolist())) == half
        # The token after each of these positions was seen half a sequence before.
        assert (probe.ids[probe.asked + 1] == probe.ids[probe.asked + 1 - half]).all()


def test_questions_need_a_tokenizer_that_knows_their_words(copier: HeadModel, tmp_path: Path) -> None:
    assert ask_questions(copier) == "its tokenizer does not know the words of the questions"
    classifier = models.load(str(fakes.save_model(tmp_path / "classifier")))
    assert ask_questions(classifier) == "it is not a causal language model"


def test_only_a_causal_language_model_has_losses_to_ablate(tmp_path: Path) -> None:
    model = models.load(str(fakes.save_model(tmp_path / "model")))
    with pytest.raises(ModelError, match="--ablate"):
        ablate_roles(model, measure_roles(model))


def test_measuring_stops_between_batches(copier: HeadModel) -> None:
    with pytest.raises(Cancelled):
        measure_roles(copier, progress=fakes.stop_at())
