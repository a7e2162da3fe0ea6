import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import copying
import fakes
import numpy as np
import pytest
import streamlit as st
import torch
from _attribution_check import list_findings, read_bundled_checks
from apps import done, explorer_with_run
from fakes import reason
from terminal import call, refused
from torch import nn

import cahp
from cahp import models
from cahp.api import bundled
from cahp.features.attribution import measuring
from cahp.features.attribution.measuring import (
    Baseline,
    TextQuestion,
    attribute_answer,
    find_answer,
    find_baseline,
    measure_baseline,
)
from cahp.features.attribution.panel import ATTRIBUTE, THIS_TEXT, AttributedText, mark_text
from cahp.features.attribution.result import Attribution, find_check, order_by_support, read_check
from cahp.models import identify
from cahp.models.head_model import HeadModel
from cahp.models.surgery import cut
from cahp.run.bench import open_bench
from cahp.stages.recovery import mean_ablate
from cahp.ui.parts.inputs import TOPIC
from cahp.ui.session.explorer import Explorer
from cahp.values import CahpError, DataError, HeadMask, ModelError, OptionError

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = "the film was great and very long"
OTHERS = ["a dull plot", "they laughed and cried", "the song was not bright"]
LAST = 2


@pytest.fixture(scope="module")
def baseline(model: HeadModel) -> Baseline:
    return measure_baseline(model, OTHERS, data="others")


def attribute(model: HeadModel, baseline: Baseline, text: str = TEXT, answer: str | None = None) -> Attribution:
    return attribute_answer(TextQuestion.read(model, text, baseline), model.card.labels, answer)


def make_last_layer_linear(model: HeadModel) -> HeadModel:
    """Make the log-probability of class 0 linear in the outputs of the last layer's heads.

    Nothing after them bends: no normalisation, no feed-forward block, no tanh. Class 1 is so likely that the
    log-probability of class 0 is its score minus a constant.
    """
    network = copy.deepcopy(model.network)
    layer = network.bert.encoder.layer[LAST]
    layer.attention.output.LayerNorm = nn.Identity()
    layer.output.LayerNorm = nn.Identity()
    network.bert.pooler.activation = nn.Identity()
    with torch.no_grad():
        for parameter in (layer.output.dense.weight, layer.output.dense.bias, network.classifier.weight[1:]):
            parameter.zero_()
        network.classifier.bias.copy_(torch.tensor([0.0, 60.0]))
    return model.with_network(network)


def test_a_linear_answer_is_attributed_exactly_and_effects_add_up(model: HeadModel, baseline: Baseline) -> None:
    linear = make_last_layer_linear(model)
    question = TextQuestion.read(linear, TEXT, baseline)
    changes, logs = question.estimate(0)
    heads = [4 * LAST + head for head in range(4)]
    masks = [HeadMask.without(removed, 3, 4).keep for removed in (*([head] for head in heads), heads)]
    exact, _ = question.remove(masks, 0)
    np.testing.assert_allclose(changes[LAST], exact[:4] - logs[0], atol=1e-4)
    assert exact[4] - logs[0] == pytest.approx(changes[LAST].sum(), abs=1e-4)
    assert np.abs(changes[LAST]).max() > 0.01


def test_a_head_whose_output_is_constant_has_no_attribution(model: HeadModel) -> None:
    network = copy.deepcopy(model.network)
    value = network.bert.encoder.layer[1].attention.self.value
    with torch.no_grad():
        # Head 2 of layer 1 gives a half in each of its eight channels, whatever it reads.
        value.weight[16:24] = 0
        value.bias[16:24] = 0.5
    constant = model.with_network(network)
    changes, _ = TextQuestion.read(constant, TEXT, measure_baseline(constant, OTHERS, data="others")).estimate(None)
    # Weights of attention sum to 1 but for the last bit.
    assert changes[1, 2] == pytest.approx(0, abs=1e-7)
    assert (np.abs(np.delete(changes.ravel(), 6)) > 1e-6).all()


@pytest.mark.parametrize("family", ["albert", "deberta-v2", "llama"])
def test_with_a_baseline_of_zeros_it_is_the_negative_gradient_of_the_gate(family: str, tmp_path: Path) -> None:
    # ALBERT's layers are used in many passes; heads of this LLaMA share keys and values in pairs.
    if family == "llama":
        fakes.save_language_model(tmp_path / "model", family=family, num_key_value_heads=2)
    else:
        fakes.save_model(tmp_path / "model", family=family)
    model = models.load(str(tmp_path / "model"), device="cpu")
    zeros = np.zeros((model.layers, model.projection(0).weight.shape[1]), dtype=np.float16)
    question = TextQuestion.read(model, TEXT, Baseline(zeros, 0, 0, "none"))
    changes, _ = question.estimate(1)
    gates = torch.ones(1, model.layers, model.heads, requires_grad=True)
    (batch,) = model.batches([question.entry])
    score = model.logits(batch, gates=gates)[0].double().log_softmax(-1)[1]
    (gradient,) = torch.autograd.grad(score, gates)
    np.testing.assert_allclose(changes, -gradient[0].numpy(), rtol=1e-3, atol=1e-6)
    assert np.abs(changes).max() > 1e-5


def test_removing_heads_is_what_the_recovery_by_means_does(model: HeadModel, baseline: Baseline) -> None:
    mask = HeadMask.of([0, 3, 4, 9], 3, 4)
    question = TextQuestion.read(model, TEXT, baseline)
    logs, predictions = question.remove([mask.keep], 1)
    recovered = mean_ablate(model, mask, OTHERS)
    (batch,) = recovered.batches(recovered.tokenize([TEXT]))
    with torch.no_grad():
        expected = recovered.logits(batch)[0].double().log_softmax(-1)
    assert logs[0] == pytest.approx(float(expected[1]), abs=1e-3)
    assert predictions[0] == int(expected.argmax())
    # Without the means it is the cut model.
    (batch,) = model.batches(model.tokenize([TEXT]))
    with torch.no_grad():
        pruned = cut(model, mask).logits(batch)[0].double().log_softmax(-1)
    assert question.remove([mask.keep], 1, fill=False)[0][0] == pytest.approx(float(pruned[1]), abs=1e-5)


def test_needed_heads_keep_the_answer_and_are_the_first_of_an_order(model: HeadModel, baseline: Baseline) -> None:
    result = attribute(model, baseline)
    needed = result.needed
    question = TextQuestion.read(model, TEXT, baseline)
    answer = model.card.labels.index(result.answer)
    logs, predictions = question.remove([needed.mask.keep], answer)
    assert (predictions[0], logs[0]) == (answer, pytest.approx(needed.log_probability, abs=1e-6))
    count = needed.mask.count
    for order in (order_by_support(result.changes), order_by_support(-np.abs(result.changes))):
        masks = [HeadMask.of(order[:size], 3, 4).keep for size in range(1, 13)]
        _, predictions = question.remove(masks, answer)
        stays = (predictions == answer).tolist()
        # No order is enough with fewer, unless the answer comes back and goes again as heads are added.
        first = stays.index(True) + 1
        assert count <= first or not all(stays[first:])
    # Each layer keeps its minimum.
    question = TextQuestion.read(model, TEXT, baseline)
    needed = attribute_answer(question, model.card.labels, floor=2).needed
    assert min(needed.mask.counts) >= 2


@pytest.fixture(scope="module")
def copying_model(tmp_path_factory: pytest.TempPathFactory) -> HeadModel:
    folder = copying.save_copying_model(tmp_path_factory.mktemp("copying") / "model")
    return models.load(str(folder), device="cpu")


def test_the_induction_head_matters_for_a_word_that_it_copies(copying_model: HeadModel) -> None:
    baseline = measure_baseline(copying_model, ["the plot was dull", "a bright scene"], data="others")
    result = attribute(copying_model, baseline, "good film great song cast good")
    assert (result.answer.strip(), result.metric) == ("film", "log-probability of the next token")
    layer, head = divmod(result.order[0], 2)
    assert copying.ROLES[2 * layer + head] == "induction"
    assert result.removed[0].exact < -3
    assert 2 in result.needed.mask.flat


@pytest.mark.parametrize(
    ("text", "answer", "error", "words"),
    [
        (" ", None, DataError, "at least one word"),
        ("good " * 600, None, DataError, "shorten the text"),
        (TEXT, "no such class", OptionError, "the classes are"),
    ],
)
def test_what_cannot_be_attributed_is_refused_in_one_sentence(
    model: HeadModel, baseline: Baseline, text: str, answer: str | None, error: type[CahpError], words: str
) -> None:
    said = reason(error, attribute, model, baseline, text, answer)
    assert words in said
    assert "\n" not in said


@pytest.mark.parametrize(("answer", "words"), [("", "has 0 tokens"), ("plot film", "has 2 tokens")])
def test_an_answer_of_a_language_model_is_one_token(copying_model: HeadModel, answer: str, words: str) -> None:
    assert words in reason(OptionError, find_answer, copying_model, (), answer)


def test_pairs_and_pruned_models_are_refused(model: HeadModel, baseline: Baseline, copying_model: HeadModel) -> None:
    assert "not a pair" in reason(DataError, TextQuestion.read, copying_model, ("a", "b"), baseline)
    pruned = cut(model, HeadMask.of([0, 4, 8], 3, 4))
    assert "already pruned" in reason(ModelError, TextQuestion.read, pruned, TEXT, baseline)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("attribution")
    fakes.save_model(place / "model")
    fakes.write_data(place / "data")
    copying.save_copying_model(place / "copying")
    (place / "texts.txt").write_text("\n\n".join(fakes.sentences(300).first))
    return place


def options(place: Path) -> list[object]:
    return ["--data", place / "data", "--device", "cpu"]


def test_a_text_has_its_top_heads_and_the_mask_that_it_needs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["attribute", place / "model", *options(place), "--text", TEXT]
    answer = call(*given, "--top", 3, "--out", place / "needed.json", "--json")
    assert (answer.code, answer.err) == (0, "")
    document = answer.document
    assert [len(document["top"]), len(document["random"]["changes"])] == [3, 10]
    assert document["baseline"].startswith("mean over ")
    changes = sorted(change for layer in document["changes"] for change in layer)
    assert [one["estimated"] for one in document["top"]] == changes[:3]
    assert TEXT not in answer.out
    assert cahp.read_mask(place / "needed.json").kept == document["needed"]["kept"]
    written = json.loads((place / "needed.json").read_text())
    assert (written["method"], written["model_sha256"]) == ("attribution", cahp.load(str(place / "model")).card.origin)
    # The baseline comes from the store.
    monkeypatch.setattr(measuring, "measure_baseline", lambda *_, **__: pytest.fail("measured again"))
    lines = call(*given).out.splitlines()
    assert lines[0].startswith(f'  {document["model"]}, 9 tokens, answer "{document["answer"]}", probability ')
    assert any(line.startswith("  without the top 6 of 12 heads") for line in lines)


def test_a_prompted_language_model_is_a_classifier(place: Path) -> None:
    prompt = {"prompt": "{text} it was", "answers": ["bad", "good"]}
    result = cahp.attribute(place / "copying", "a dull plot", data=place / "data", device="cpu", **prompt)
    assert result.metric == "log-probability of the class"
    assert result.answer in ("neg", "pos", "bad", "good")


@pytest.mark.parametrize(("given", "words"), [([], "a text is needed"), (["--text", TEXT, "--top", 0], "--top")])
def test_bad_input_is_refused_in_one_line(place: Path, given: list[object], words: str) -> None:
    assert words in refused(call("attribute", place / "model", *options(place), *given))


def test_no_mask_keeps_an_answer_that_the_model_does_not_give(place: Path) -> None:
    model = cahp.load(str(place / "model"), device="cpu")
    predicted = cahp.attribute(model, TEXT, data=place / "data").predicted
    (other,) = set(model.card.labels) - {predicted}
    given = ["--text", TEXT, "--answer", other, "--out", place / "none.json"]
    answer = call("attribute", place / "model", *options(place), *given)
    # What was measured is printed all the same.
    assert (answer.code, "Change of the log-probability" in answer.out) == (2, True)
    assert "so no mask keeps" in answer.err
    assert not (place / "none.json").exists()


@pytest.fixture(scope="module")
def explorer(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explorer]:
    with explorer_with_run("reader", fakes.quick_task(tmp_path_factory.mktemp("attribution"))) as made:
        yield made


@pytest.fixture(scope="module")
def result(explorer: Explorer) -> Attribution:
    asked = AttributedText(explorer.bench, TEXT, None)
    assert THIS_TEXT.know(explorer) is None
    explorer.memory["attribution.text"] = asked
    done(explorer.work.start(ATTRIBUTE, asked))
    return asked.result


def test_the_board_is_coloured_by_the_text_of_the_session(explorer: Explorer, result: Attribution) -> None:
    assert THIS_TEXT.know(explorer) is result
    painted = mark_text(result)
    words = [painted.words[group] for group in painted.groups.ravel()]
    changes = result.changes.ravel()
    assert words[int(np.abs(changes).argmax())] in ("supports it most", "against it")
    assert painted.groups.ravel()[result.order].tolist() == sorted(painted.groups.ravel().tolist())
    # The colours of another text are not shown.
    key = f"own-text-text-{TOPIC}"
    st.session_state[key] = "typed on another page"
    assert THIS_TEXT.know(explorer) is None
    st.session_state[key] = TEXT
    assert THIS_TEXT.know(explorer) is result
    del st.session_state[key]


def test_the_shipped_checks_are_of_fifty_texts_and_beat_random_heads() -> None:
    checks = {check.model: check for check in read_bundled_checks().values()}
    assert set(checks) == {"minilm-bbc", "smollm2"}
    for name, check in checks.items():
        # The check read texts of any length.
        bench = open_bench(replace(bundled.RUNS[name], max_length=None))
        card = bench.card
        assert (check.sha256, check.units, len(check.texts)) == (card.identity, card.layers * card.heads, 50)
        assert check.baseline == str(find_baseline(bench))
        assert check.made is not None
        assert read_check(card.identity) == list(list_findings(check))
        # Without the top heads the answer loses more than without random ones.
        assert all(gap.high < 0 for _, _, gap in map(check.removed, range(3)))


def test_a_check_stands_beside_the_comparison_of_its_model() -> None:
    comparisons, _ = bundled.read_comparisons()
    claims = {one.name: find_check(one.comparison.document) for one in comparisons}
    claim = claims["minilm-bbc"]
    assert [vars(line)["text"] for line in claim.show()] == read_check(identify("minilm-bbc").identity)
    assert claims["minilm-sst5"] is None
