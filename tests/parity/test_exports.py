"""What is taken home loads elsewhere: every family, every form, read in a process that does not know this package."""

from __future__ import annotations

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
from terminal import call
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import cahp
from cahp import models
from cahp.api.export import export
from cahp.exports import formats
from cahp.exports.checkpoints import Provenance, claimed, write
from cahp.exports.form import ModelForm, Pruned
from cahp.models import saving
from cahp.models.head_model import HeadModel, Verified
from cahp.models.surgery import cut
from cahp.run.settings import Settings
from cahp.stages.recovery import mean_ablate
from cahp.store import Store
from cahp.values import CahpError, HeadMask, MaskError, ModelError, OptionError

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


FAMILIES = [
    kind if kind in fakes.SAMPLE else pytest.param(kind, marks=pytest.mark.nightly) for kind in sorted(fakes.SHAPES)
]

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
def test_what_cannot_be_exported_is_refused_with_a_next_step(
    changes: dict[str, str], said: str, tmp_path: Path
) -> None:
    model = fakes.save_model(tmp_path / "model")
    (tmp_path / "mask.json").write_text(json.dumps({"0": [1]}))
    options = {"format": "compact", "out": "out", **changes}
    out = tmp_path / str(options.pop("out"))
    with pytest.raises(CahpError, match=said):
        export(model, mask=tmp_path / "mask.json", out=out, store=Store(tmp_path), **options)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_mean_ablated_model_reads_back_where_there_is_a_bias(
    family: str, tmp_path: Path, read_back_here: None
) -> None:
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
