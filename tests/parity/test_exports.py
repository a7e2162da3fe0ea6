"""What is taken home loads elsewhere: every family, every form, read in a process that does not know this package."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import fakes
import numpy as np
import onnx
import pytest
import torch
import zoo
from terminal import call
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

import cahp
from cahp import models
from cahp.api.export import export
from cahp.exports import formats
from cahp.exports.checkpoints import Provenance, claimed, write
from cahp.exports.form import ModelForm, Pruned
from cahp.models import saving
from cahp.models.caching import continue_greedily, decode_step, fill_cache
from cahp.models.head_model import HeadModel, Verified
from cahp.models.saving import refuse_standard
from cahp.models.surgery import can_cut, cut
from cahp.recoveries import RECOVERIES
from cahp.run.settings import Settings
from cahp.stages.recovery import mean_ablate, solve
from cahp.store import Store
from cahp.values import CahpError, HeadMask, MaskError, ModelError, OptionError

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = fakes.sentences(12).inputs
#: The family that is written as ONNX here, which takes seconds (in 8 bits, so that the exact file is held against the
#: model on the way); test_types.py tries all.
AS_ONNX = "gpt2"


def forms_of(family: str) -> list[ModelForm]:
    some = [form for form in formats.model_forms() if form.key in ("compact", "drop-in") or form.needs]
    return [form for form in some if not form.needs or (family == AS_ONNX and form.rounded)]


def uneven(model: HeadModel) -> HeadMask:
    keep = np.random.default_rng(3).random((model.layers, model.heads)) < 0.5
    keep[:, 1] = True
    return HeadMask(keep)


FAMILIES = fakes.rarely(sorted(fakes.SHAPES))

#: Reads every folder below the first argument as somebody would who has never heard of this package.
READER = """
import sys, numpy, torch
from pathlib import Path
assert not any("cahp" in name for name in sys.modules)
import importlib.util
import onnxruntime
from transformers import AutoModelForSequenceClassification
root = Path(sys.argv[1])
for asked in sorted(root.glob("*/inputs.npz")):
    with numpy.load(asked) as file:
        inputs = {name: file[name] for name in file.files}
    tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
    spec = importlib.util.spec_from_file_location("load_pruned", asked.parent / "compact" / "load_pruned.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sessions = {file.parent.name: onnxruntime.InferenceSession(str(file)) for file in asked.parent.glob("*/model.onnx")}
    with torch.no_grad():
        found = {
            "compact": module.load_pruned()(**tensors).logits.numpy(),
            "drop-in": AutoModelForSequenceClassification.from_pretrained(asked.parent / "drop-in").eval()(
                **tensors
            ).logits.numpy(),
            **{
                form: session.run(["logits"], {one.name: inputs[one.name] for one in session.get_inputs()})[0]
                for form, session in sessions.items()
            },
        }
    numpy.savez(asked.parent / "logits.npz", **found)
assert "cahp" not in sys.modules
"""


@pytest.fixture(scope="module")
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, HeadModel, HeadMask, np.ndarray]]:
    """For every family: its folder of exports, the model, the mask, and the masked model's logits."""
    root, made = tmp_path_factory.mktemp("exports"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saving, "in_new_process", fakes.in_this_process)
        nightly = "nightly" in request.config.getoption("markexpr")
        for family in sorted(fakes.SHAPES) if nightly else fakes.SAMPLE:
            model = models.load(str(fakes.save_model(root / family / "original", family)), device="cpu")
            mask = uneven(model)
            for form in forms_of(family):
                write(form, root / family / form.key, Pruned(model, cut(model, mask), mask, TEXTS), seconds=None)
            (batch,) = model.batches(model.tokenize(TEXTS[:5]))
            np.savez(root / family / "inputs.npz", **{name: t.numpy() for name, t in batch.tensors.items()})
            logits = model.logits(batch, gates=model.gates(mask.keep)).numpy()
            made[family] = (root / family, model, mask, logits)
    done = subprocess.run([sys.executable, "-I", "-c", READER, str(root)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return made


@pytest.mark.parametrize("family", FAMILIES)
def test_each_form_gives_the_logits_of_the_masked_model_in_a_new_process(exported, family: str) -> None:  # type: ignore[no-untyped-def]
    folder, _, _, expected = exported[family]
    with np.load(folder / "logits.npz") as found:
        for form in forms_of(family):
            worst = np.abs(found[form.key] - expected).max()
            assert form.rounded or worst <= form.tolerance * max(1.0, np.abs(expected).max()), form.key
            if form.rounded:
                assert (found[form.key].argmax(1) != expected.argmax(1)).sum() <= 1, form.key


@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_exported_can_be_replaced_by_the_next_export(exported, family: str) -> None:  # type: ignore[no-untyped-def]
    folder, model, *_ = exported[family]
    for form in forms_of(family):
        claimed(folder / form.key, model.card)
        assert (folder / form.key / form.file).is_file()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_compact_model_is_smaller_by_what_was_removed_and_can_be_evaluated(exported, family: str) -> None:  # type: ignore[no-untyped-def]
    folder, model, mask, expected = exported[family]
    again = models.load(str(folder / "compact"), device="cpu")
    pruned = cut(model, mask)
    assert again.head_counts == pruned.head_counts
    assert again.parameters == pruned.parameters < model.parameters
    # What was cut before is not cut again, so nothing is said of a difference.
    assert again.verified == Verified(None)
    (batch,) = again.batches(again.tokenize(TEXTS[:5]))
    assert np.abs(again.logits(batch).numpy() - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())
    sizes = {form: (folder / form / "model.safetensors").stat().st_size for form in ("compact", "drop-in")}
    saved = 4 * (model.parameters - pruned.parameters)
    assert abs(sizes["drop-in"] - sizes["compact"] - saved) < 4096  # headers differ a little


def test_a_compact_model_s_gates_still_have_the_places_of_the_original(exported) -> None:  # type: ignore[no-untyped-def]
    folder, model, mask, _ = exported["bert"]
    again = models.load(str(folder / "compact"), device="cpu")
    assert f"all heads is about the {mask.count} that were kept" in again.card.notes[-1]
    (batch,) = again.batches(again.tokenize(TEXTS[:5]))
    fewer = mask.keep.copy()
    fewer[0, mask.by_layer[0][0]] = False
    masked = model.logits(batch, gates=model.gates(fewer))
    assert torch.allclose(again.logits(batch, gates=again.gates(fewer)), masked, atol=1e-5)
    with pytest.raises(MaskError, match="already pruned"):
        cut(again, mask)
    with pytest.raises(ModelError, match="already pruned"):
        cahp.open_bench(Settings(model=str(folder / "compact"), data="nowhere"))


def test_all_weights_of_a_compact_model_learn_in_a_fine_tuning_loop(exported) -> None:  # type: ignore[no-untyped-def]
    folder, *_ = exported["bert"]
    network = cahp.load_pruned(folder / "compact")
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    inputs = AutoTokenizer.from_pretrained(folder / "compact")(TEXTS[:4], return_tensors="pt", padding=True)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(10):
        loss = network(**inputs, labels=torch.tensor([0, 1, 0, 1])).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert not [name for name, parameter in network.named_parameters() if torch.equal(parameter, before[name])]


def test_plain_transformers_refuses_a_compact_model_instead_of_making_weights_up(exported) -> None:  # type: ignore[no-untyped-def]
    folder, *_ = exported["bert"]
    with pytest.raises((RuntimeError, ValueError)):
        AutoModelForSequenceClassification.from_pretrained(folder / "compact")


def test_an_exported_folder_describes_its_model(exported) -> None:  # type: ignore[no-untyped-def]
    folder, model, mask, _ = exported[AS_ONNX]
    for form in (form.key for form in forms_of(AS_ONNX)):
        card = (folder / form / "README.md").read_text()
        assert f"{mask.count} of {mask.keep.size} attention heads" in card
        assert model.card.identity in card
        assert mask.sha256 in card
        assert cahp.read_mask(folder / form / "head_mask.json").sha256 == mask.sha256
        assert json.loads((folder / form / "metrics.json").read_text())["parameters"]["full"] == model.parameters
        assert AutoTokenizer.from_pretrained(folder / form).pad_token == "[PAD]"
        assert not [path for path in (folder / form).iterdir() if path.suffix in (".bin", ".pt", ".pkl")]
    assert sorted(path.name for path in (folder / "onnx-int8").glob("*model*")) == ["model.onnx"]
    kinds = {tensor.data_type for tensor in onnx.load(folder / "onnx-int8" / "model.onnx").graph.initializer}
    # So small a model is not smaller for it, but its matrices are.
    assert onnx.TensorProto.INT8 in kinds


@pytest.mark.slow
def test_the_command_exports_measures_and_reads_back_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAHP_CACHE", str(tmp_path / "cache"))
    model = fakes.save_model(tmp_path / "model")
    data = fakes.write_data(tmp_path / "data")
    mask = tmp_path / "mask.json"
    mask.write_text(json.dumps({"0": [0, 1], "2": [3]}))
    common = ["--model", model, "--data", data, "--device", "cpu", "--json"]
    command = ["export", "--mask", mask, "--recover", "refit", "--out", tmp_path / "out", *common]
    exported = call(*command)
    assert exported.code == 0, exported.err
    said = exported.document
    assert said["difference"] <= 1e-5
    assert said["metrics"]["recovered"]["n"] == 40
    again = call("evaluate", *common, "--model", tmp_path / "out").document["metrics"]["full"]
    assert again["accuracy"] == said["metrics"]["recovered"]["accuracy"]
    assert again["loss"] == pytest.approx(said["metrics"]["recovered"]["loss"], abs=1e-5)


@pytest.mark.parametrize("form", [form.key for form in formats.mask_forms()])
def test_masks_travel_through_every_file(form: str, tmp_path: Path) -> None:
    model = fakes.save_model(tmp_path / "model")
    mask = HeadMask.of([0, 3, 5, 6, 11], 3, 4)
    (tmp_path / "mask.npy").write_bytes(cahp.exports.masks.mask_array(mask))  # type: ignore[attr-defined]
    settings = Settings(model=str(model))
    found = export(settings, mask=tmp_path / "mask.npy", format=form, out=tmp_path / "out", store=Store(tmp_path))
    written = tmp_path / "out" / found["file"]
    if form == "duo-attention":
        assert np.loadtxt(written, delimiter="\t").tolist() == mask.keep.tolist()
    elif form == "csv":
        assert written.read_text().splitlines()[1:3] == ["0,0,1", "0,1,0"]
    else:
        assert cahp.read_mask(written, layers=3, heads=4).sha256 == mask.sha256


def test_what_answers_otherwise_is_never_written(tmp_path: Path, read_back_here: None) -> None:
    model = models.load(str(fakes.save_model(tmp_path / "model")), device="cpu")
    mask, compact = uneven(model), formats.model_form("compact")
    # The written model is read with logits that are too high by more than rounding explains.
    reads = f"{compact.reads}\nright = answer\ndef answer(batch): return right(batch) + 0.001\n"
    with pytest.raises(CahpError, match="was not written: after loading it again"):
        write(replace(compact, reads=reads), tmp_path / "out", Pruned(model, cut(model, mask), mask, TEXTS))
    assert not (tmp_path / "out").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".out")]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "zip"}, "compact"),
        ({"recover": "refit"}, "--data"),
        ({"format": "drop-in", "out": "model"}, "itself"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_a_remedy(changes: dict[str, str], said: str, tmp_path: Path) -> None:
    model = fakes.save_model(tmp_path / "model")
    (tmp_path / "mask.json").write_text(json.dumps({"0": [1]}))
    options = {"format": "compact", "out": "out", **changes}
    out = tmp_path / str(options.pop("out"))
    with pytest.raises(CahpError, match=said):
        export(model, mask=tmp_path / "mask.json", out=out, store=Store(tmp_path), **options)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_mean_ablated_model_reads_back_where_biases_are(family: str, tmp_path: Path, read_back_here: None) -> None:
    model = models.load(str(fakes.save_model(tmp_path / "model", family)), device="cpu")
    keep = np.ones((model.layers, model.heads), dtype=np.bool_)
    keep[0, 1:] = False
    mask, texts = HeadMask(keep), fakes.sentences(60)
    pruned = mean_ablate(model, mask, texts.inputs)
    for form in ("compact", "drop-in"):
        whole = Pruned(model, pruned, mask, texts.inputs[:8])
        if (family, form) == ("llama", "drop-in"):
            with pytest.raises(OptionError, match="its output projections have no bias"):
                write(formats.model_form(form), tmp_path / form, whole, provenance=Provenance(recovery="mean"))
        else:
            assert write(formats.model_form(form), tmp_path / form, whole)["difference"] <= 1e-5


STANDARD = formats.model_form("standard")
#: Tiny classifiers whose configuration states the size of a head: one that derives it if it is missing, one with a
#: norm of queries and keys, one with queries, keys and values in one matrix, and one with a single key-value head.
STATED: dict[str, dict[str, object]] = {"llama": {}, "qwen3": {}, "phi3": {}, "gemma": {"num_key_value_heads": 1}}


def even(model: HeadModel, kept: int) -> HeadMask:
    """Other heads in every layer, and equally many."""
    order = np.random.default_rng(1).random((model.layers, model.heads)).argsort(axis=1)
    return HeadMask(order < kept)


@pytest.mark.usefixtures("read_back_here")
@pytest.mark.parametrize("kind", STATED)
def test_transformers_alone_reads_an_even_model_as_the_masked_one(kind: str, tmp_path: Path) -> None:
    model = models.load(str(zoo.save(tmp_path / "model", kind, seed=3, **STATED[kind])), device="cpu")
    mask = even(model, model.heads // 2)
    write(STANDARD, tmp_path / "out", Pruned(model, cut(model, mask), mask, TEXTS))
    network = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    (batch,) = model.batches(model.tokenize(TEXTS[:5]))
    expected = model.logits(batch, gates=model.gates(mask.keep))
    with torch.no_grad():
        torch.testing.assert_close(network(**batch.tensors).logits, expected, atol=1e-5, rtol=1e-5)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    # Of 4 query heads in 2 groups a group is left; of 4 that share a key-value head two are left, and that head.
    assert (config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]) == (2, 1, 8)
    # By the old name, too: MLX does not read ``rope_parameters``.
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    assert "cahp" not in config
    assert not list((tmp_path / "out").glob("*.py"))


@pytest.mark.usefixtures("read_back_here")
@pytest.mark.parametrize("recover", [False, True])
def test_a_language_model_writes_the_same_text_with_its_cache(recover: bool, tmp_path: Path) -> None:
    model = models.load(str(fakes.save_language_model(tmp_path / "model", family="llama")), device="cpu")
    mask = even(model, 2)
    pruned = mean_ablate(model, mask, TEXTS) if recover else cut(model, mask)
    write(
        STANDARD,
        tmp_path / "out",
        Pruned(model, pruned, mask, TEXTS),
        provenance=Provenance(recovery="mean" if recover else "none"),
    )
    network = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    # A mean ablation needs a bias of the output projection, which Llama has with those of queries, keys and values.
    assert network.config.attention_bias is recover
    if recover:
        assert not network.model.layers[0].self_attn.q_proj.bias.any()
        assert network.model.layers[0].self_attn.o_proj.bias.any()
    asked = torch.tensor([[2, 9, 14, 5]])
    with torch.no_grad():
        ours, theirs = pruned.network(input_ids=asked).logits, network(input_ids=asked).logits
        torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)
        written = asked
        for _ in range(12):
            logits = pruned.network(input_ids=written).logits[:, -1]
            logits[:, network.config.eos_token_id] = -torch.inf
            written = torch.cat([written, logits.argmax(-1, keepdim=True)], dim=1)
        found = network.generate(asked, min_new_tokens=12, max_new_tokens=12, do_sample=False)
        assert found.tolist() == written.tolist()


@pytest.mark.parametrize("kind", ["bert", "gpt_neox", "t5"])
def test_a_model_whose_head_size_is_derived_is_refused_with_what_it_can_be(kind: str, tmp_path: Path) -> None:
    card = models.identify(str(zoo.save(tmp_path / "model", kind)))
    reason = refuse_standard(card)
    assert "fewer heads would be larger ones" in reason
    with pytest.raises(OptionError, match=r"cannot be exported as standard, since .*; export it as compact or drop-in"):
        formats.check_export(STANDARD, card)


def test_a_number_of_heads_that_the_class_refuses_is_refused(tmp_path: Path) -> None:
    shape = {"num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 4}
    card = models.identify(str(zoo.save(tmp_path / "model", "llama", **shape)))
    # Llama's width of 32 must be a multiple of the number of heads.
    assert refuse_standard(card, units=4) is None
    assert "its class cannot have fewer heads" in str(refuse_standard(card, units=3))


def test_a_bias_that_a_class_cannot_hold_is_refused_before_anything_is_recovered(tmp_path: Path) -> None:
    card = models.identify(str(zoo.save(tmp_path / "model", "qwen2")))
    mask = HeadMask(np.array([[True, False], [False, True]]))
    formats.check_export(STANDARD, card, mask, "refit")
    with pytest.raises(OptionError, match=r"no bias in the output projection of its attention.*export it as compact"):
        formats.check_export(STANDARD, card, mask, "mean")
    with pytest.raises(OptionError, match="cannot be exported as drop-in, since its output projections have no bias"):
        formats.check_export(formats.model_form("drop-in"), card, mask, "mean")


@pytest.mark.parametrize("form", ["standard", "drop-in"])
def test_a_refused_bias_names_the_recovery_of_it(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = models.identify(str(zoo.save(tmp_path / "model", "qwen2")))
    shift = replace(RECOVERIES["refit"], name="shift", noun="shift", adds_biases=True)
    baseline = replace(RECOVERIES["refit"], name="baseline", baseline=True)
    monkeypatch.setattr(formats, "RECOVERIES", {**RECOVERIES, "shift": shift, "baseline": baseline})
    with pytest.raises(OptionError, match=r"no bias.*, and shift needs one"):
        formats.check_export(formats.model_form(form), card, recover="shift")
    # To be applied in any case is another thing than to add biases.
    formats.check_export(formats.model_form(form), card, recover="baseline")


def test_an_uneven_mask_is_refused_with_the_option_that_makes_it_even(tmp_path: Path) -> None:
    card = models.identify(str(zoo.save(tmp_path / "model", "llama")))
    with pytest.raises(OptionError, match="the mask keeps 1 to 2; choose heads with --even; export it as compact"):
        formats.check_export(STANDARD, card, HeadMask(np.array([[True, True], [False, True]])))


#: Its first layer is without heads, whose cache tells the positions.
LANGUAGE, CLASSIFIERS = ("gpt2", "llama"), ("bart", "bert", "deberta-v2", "llama", "modernbert")


def first_empty(model: HeadModel) -> HeadMask:
    keep = np.ones((model.layers, model.heads), dtype=np.bool_)
    keep[0], keep[-1, 0] = False, False
    return HeadMask(keep)


def load(folder: Path, family: str, *, language: bool) -> HeadModel:
    save = fakes.save_language_model if language else fakes.save_model
    return models.load(str(save(folder, family=family)), device="cpu")


@pytest.mark.usefixtures("read_back_here")
@pytest.mark.parametrize(
    ("family", "language"), [*((one, True) for one in LANGUAGE), *((one, False) for one in CLASSIFIERS)]
)
def test_masked_cut_and_reloaded_models_give_the_same_logits(tmp_path: Path, family: str, language: bool) -> None:
    model = load(tmp_path / "model", family, language=language)
    mask = first_empty(model)
    pruned = cut(model, mask)
    (batch,) = model.batches(model.tokenize(TEXTS[:5]))
    masked = model.logits(batch, gates=model.gates(mask.keep))
    assert not torch.equal(masked, model.logits(batch))
    assert pruned.head_counts[0] == 0
    bound = 1e-5 * max(1.0, float(masked.abs().max()))
    assert float((pruned.logits(batch) - masked).abs().max()) <= bound
    for form in ("compact", "drop-in"):
        folder = tmp_path / form
        write(formats.model_form(form), folder, Pruned(model, pruned, mask, TEXTS), seconds=None)
        again = models.load(str(folder), device="cpu")
        assert float((again.logits(batch) - masked).abs().max()) <= bound, form
    assert again.head_counts == model.head_counts
    assert models.identify(str(tmp_path / "compact")).kept == tuple(map(tuple, mask.by_layer))


@pytest.mark.parametrize("family", [*LANGUAGE, "bert"])
def test_a_refit_and_a_mean_ablation_serve_layers_without_heads(tmp_path: Path, family: str) -> None:
    model = load(tmp_path, family, language=family in LANGUAGE)
    mask, (batch,) = first_empty(model), model.batches(model.tokenize(TEXTS))
    wanted = model.logits(batch)
    before, mean, refit = (
        float((made.logits(batch) - wanted).abs().mean())
        for made in (cut(model, mask), mean_ablate(model, mask, TEXTS), solve(model, mask, TEXTS))
    )
    assert refit < before
    assert mean < 1.5 * before


@pytest.mark.parametrize("family", LANGUAGE)
def test_text_is_generated_with_a_cache_that_holds_nothing_of_the_layer(tmp_path: Path, family: str) -> None:
    model = load(tmp_path, family, language=True)
    mask = first_empty(model)
    pruned = cut(model, mask)
    made = list(continue_greedily(pruned, [2, 5, 6, 7], 6))
    ids = fakes.write_on(pruned.network, torch.tensor([[2, 5, 6, 7]]), len(made))
    assert ids[0, 4:].tolist() == made
    for options in ({}, {"cache_implementation": "static"}):
        written = pruned.network.generate(ids[:, :4], max_new_tokens=3, do_sample=False, **options)
        assert written[0, 4:].tolist() == made[:3], options
    cache = fill_cache(pruned, ids[:, :1], context=9)
    sizes = [layer.keys.numel() for layer in cache.layers]
    assert sizes[0] == 0 < sizes[1]
    assert cache.get_seq_length() == 9
    decode_step(pruned, ids[:, :1], cache)
    counted = model.card.measure_cache(mask)
    assert counted.pruned == 2 * 4 * sum(sizes) // 9


def test_a_generating_model_with_an_empty_layer_is_loaded_elsewhere(tmp_path: Path, read_back_here: None) -> None:
    model = load(tmp_path / "model", "llama", language=True)
    mask = first_empty(model)
    pruned, form = cut(model, mask), formats.model_form("compact")
    # The name of a file that is no UTF-8.
    command = Provenance(command="cahp export --mask caf\udce9.json")
    write(form, tmp_path / "out", Pruned(model, pruned, mask, TEXTS), provenance=command, seconds=None)
    assert "caf\\udce9.json" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    network, ids = cahp.load_pruned(tmp_path / "out"), torch.tensor([[2, 5, 6, 7]])
    made = network.generate(ids, max_new_tokens=4, do_sample=False)[0, 4:].tolist()
    assert made == list(continue_greedily(pruned, [2, 5, 6, 7], 4))[: len(made)]


@pytest.mark.parametrize("kind", ["albert", "t5"])
def test_attention_that_does_more_cannot_be_left_out(tmp_path: Path, kind: str) -> None:
    """ALBERT's holds the residual, too, and T5's first one computes a bias for all layers."""
    model = models.load(str(zoo.save(tmp_path, kind)), device="cpu")
    mask = first_empty(model)
    assert not can_cut(model, mask)
    with pytest.raises(MaskError, match="cannot do without the attention of a layer"):
        cut(model, mask)
