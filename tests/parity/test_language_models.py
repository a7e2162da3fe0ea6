"""Language models as classifiers, end to end: taught a rule in the test, pruned, recovered, exported, generating."""

import json
from dataclasses import replace
from pathlib import Path

import fakes
import numpy as np
import pytest
import torch
from fakes import prune
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from cahp import models
from cahp.api.export import export
from cahp.models import saving
from cahp.models.compact import load_pruned
from cahp.models.saving import save_network
from cahp.models.surgery import cut, restore_shapes
from cahp.run.prune import Run
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")

_LOADS = {"causal": AutoModelForCausalLM, "masked": AutoModelForMaskedLM}


@pytest.fixture(scope="module", params=["causal", "masked"])
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(language: str, one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.teach(fakes.save_language_model(tmp_path_factory.mktemp(language), language), language)


@pytest.fixture(scope="module")
def settings(language: str, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    data = fakes.write_data(tmp_path_factory.mktemp("data"))
    prompt = {"prompt": fakes.PROMPTS[language], "answers": fakes.ANSWERS}
    return fakes.quick(folder, data, **prompt, budget="6", recover="refit")


@pytest.fixture(scope="module")
def run(settings: Settings, store: Store) -> Run:
    return prune(settings, store=store)


def test_a_model_that_learned_the_rule_answers_by_it(run: Run, language: str) -> None:
    """Taught by transformers alone, so its accuracy says that the package asks, and reads answers, as it should."""
    document = run.document
    assert document.outcomes["full"]["accuracy"].value >= 0.9
    assert document.outcomes["pruned"]["accuracy"].n == document.outcomes["recovered"]["accuracy"].n == 40
    assert run.mask.count == 6
    assert document.verified.mask_bites is document.verified.mask_equals_surgery is True
    assert document.data.classes == fakes.ANSWERS
    assert "labels matched in order: bad=awful, good=great." in document.notices
    said = json.loads(json.dumps(document.to_json()))["settings"]
    assert said["prompt"] == fakes.PROMPTS[language]
    assert said["answers"] == list(fakes.ANSWERS)
    assert "--prompt" not in document.command


def test_answers_the_wrong_way_round_are_wrong_and_the_remedy_is_named(settings: Settings, store: Store) -> None:
    turned = prune(replace(settings, answers=fakes.ANSWERS[::-1], recover="none"), store=store).document
    assert turned.outcomes["full"]["accuracy"].value <= 0.1
    (notice,) = [one for one in turned.notices if "permuted" in one]
    assert "--label-map bad=awful,good=great" in notice
    mapped = replace(settings, answers=fakes.ANSWERS[::-1], recover="none", label_map={"bad": "awful", "good": "great"})
    assert prune(mapped, store=store).document.outcomes["full"]["accuracy"].value >= 0.9


@pytest.mark.parametrize("how", ["distill", "finetune"])
def test_it_learns_as_a_language_model(run: Run, settings: Settings, store: Store, how: str) -> None:
    """Trained through the prompt, at the answer; what is tied stays tied."""
    found = prune(replace(settings, recover=how), store=store).document
    assert found.outcomes["recovered"]["accuracy"].n == 40
    if how == "distill":
        assert found.outcomes["recovered"]["nll"].value < found.outcomes["pruned"]["nll"].value
    # At the rate of the paper's fine-tuning a few batches change little, but the answers do change.
    assert found.outcomes["recovered"]["nll"].value != found.outcomes["pruned"]["nll"].value
    assert (found.distill is None) is (how == "finetune")


def test_masked_cut_and_reloaded_answer_alike_with_tied_embeddings(folder: Path, language: str, tmp_path: Path) -> None:
    model = models.load(str(folder), device="cpu", prompt=fakes.PROMPTS[language], answers=fakes.ANSWERS)
    mask = HeadMask.of([1, 2, 5, 8, 11], model.layers, model.heads)
    (batch,) = model.batches(model.tokenize(fakes.sentences(12).inputs))
    masked = model.logits(batch, gates=model.gates(mask.keep))
    assert not torch.allclose(masked, model.logits(batch), atol=1e-3)
    pruned = cut(model, mask)
    assert torch.allclose(pruned.logits(batch), masked, atol=1e-5)
    save_network(restore_shapes(model, pruned, mask), model.tokenizer, tmp_path / "drop-in")
    (tmp_path / "compact").mkdir()
    model.tokenizer.save_pretrained(tmp_path / "compact")
    saving.save_compact(tmp_path / "compact", pruned, mask)
    for place in ("drop-in", "compact"):
        again = models.load(str(tmp_path / place), device="cpu", prompt=fakes.PROMPTS[language], answers=fakes.ANSWERS)
        assert torch.allclose(again.logits(batch), masked, atol=1e-5)
        tied = again.network.get_output_embeddings().weight.data_ptr()
        assert tied == again.network.get_input_embeddings().weight.data_ptr()


@pytest.mark.parametrize("form", ["compact", "drop-in", pytest.param("onnx-int8", marks=pytest.mark.nightly)])
@pytest.mark.usefixtures("read_back_here")
def test_what_is_exported_is_a_language_model_again(
    run: Run, settings: Settings, store: Store, language: str, form: str, tmp_path: Path
) -> None:
    """It loads by its own class, says what the pruned one says, and goes on from a text, with its own settings."""
    np.save(tmp_path / "mask.npy", run.mask.keep)
    out = tmp_path / "out"
    if form == "onnx-int8":
        pytest.importorskip("onnxruntime", reason="what runs ONNX files is not installed")
        if language == "masked":
            pytest.skip("one model in 8 bits says enough, and writing one takes seconds")
    unrecovered = replace(settings, recover="none")
    found = export(unrecovered, mask=tmp_path / "mask.npy", format=form, out=out, store=store)
    if form == "onnx-int8":
        # What it was rounded from was held against the model on the way.
        assert found["difference"] > 0
        assert found["agreement"] >= 0.95
    else:
        assert found["difference"] <= 1e-5
    card = (out / "README.md").read_text()
    assert ("AutoModelForCausalLM" in found["loads"] + card) is (form == "drop-in" and language == "causal")
    assert "SequenceClassification" not in card
    assert f"pipeline_tag: {'text-generation' if language == 'causal' else 'fill-mask'}" in card
    assert (fakes.PROMPTS[language].removeprefix("{text}") in card) is (form != "onnx-int8")
    figures = json.loads((out / "metrics.json").read_text())
    assert figures["model"]["prompt"] == fakes.PROMPTS[language]
    if form == "onnx-int8":
        return
    tokenizer = AutoTokenizer.from_pretrained(out)
    made = load_pruned(out) if form == "compact" else _LOADS[language].from_pretrained(out).eval()
    if language == "causal":
        given = tokenizer("the film is", return_tensors="pt", add_special_tokens=False)
        said = made.generate(**given, max_new_tokens=6, do_sample=False, eos_token_id=None)
        assert torch.equal(said, fakes.write_on(made, given["input_ids"], 6))
        assert made.config.use_cache is not False


def test_another_prompt_is_another_model_in_the_store(run: Run, settings: Settings, store: Store) -> None:
    assert prune(settings, store=store).document.cached
    other = replace(settings, prompt=f"the {settings.prompt}", recover="none")
    assert not prune(other, store=store).document.cached


#: Families of which transformers has language models: whose heads, caches and ties differ.
_FAMILIES = {
    "causal": ("gpt2", "gpt_neox", "llama", "opt"),
    "masked": (
        *("albert", "bert", "camembert", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet", "roberta"),
        "xlm-roberta",
    ),
}


@pytest.mark.parametrize(
    ("kind", "family"), [(kind, family) for kind, families in _FAMILIES.items() for family in families]
)
def test_each_language_model_is_prompted_cut_and_generates(kind: str, family: str, tmp_path: Path) -> None:
    """Scores as the library's own, masked as cut, compact as cut, and the compact one writes on as its logits say."""
    folder = fakes.save_language_model(tmp_path / "lm", kind, family)
    model = models.load(str(folder), device="cpu", prompt=fakes.PROMPTS[kind], answers=fakes.ANSWERS)
    (batch,) = model.batches(model.tokenize(fakes.sentences(9).inputs))
    plain, ids = _LOADS[kind].from_pretrained(folder).eval(), [one.token for one in model.prompt.answers]
    with torch.no_grad():
        every = plain(**batch.tensors).logits[torch.arange(9), model.prompt.positions(batch.tensors)]
    assert torch.allclose(model.logits(batch), every[:, ids], atol=1e-4)
    mask = HeadMask(np.random.default_rng(1).random((model.layers, model.heads)) < 0.5)
    mask = HeadMask(mask.keep | (np.arange(model.heads) == 0))
    pruned = cut(model, mask)
    assert torch.allclose(pruned.logits(batch), model.logits(batch, gates=model.gates(mask.keep)), atol=1e-5)
    saving.save_compact(tmp_path, pruned, mask)
    made = load_pruned(tmp_path)
    assert all(parameter.requires_grad for parameter in made.parameters())
    with torch.no_grad():
        every = made(**batch.tensors).logits[torch.arange(9), model.prompt.positions(batch.tensors)]
        assert torch.allclose(every[:, ids], pruned.logits(batch), atol=1e-4)
        if kind == "causal":
            given = torch.tensor([[4, 9, 12]])
            options = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
            said = made.generate(given, attention_mask=torch.ones_like(given), **options)
            assert torch.equal(said, fakes.write_on(made, given, 5))
