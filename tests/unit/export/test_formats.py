"""A form is one entry: whatever offers, refuses, writes, reads back or explains exports takes it from the table."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clusters import ratio_of
from safetensors.torch import save_file

import cahp
from cahp.api.export import export
from cahp.exports import formats
from cahp.exports.form import MaskForm, ModelForm, Pruned
from cahp.models import selftest
from cahp.models.cards import Timing
from cahp.models.head_model import HeadModel
from cahp.models.saving import ReadBack
from cahp.output import Output
from cahp.run.settings import Settings
from cahp.stages.latency import Times
from cahp.store import Store
from cahp.terminal.printing import export_lines
from cahp.values import CahpError, OptionError
from cahp.words import size_of


def write_toy(folder: Path, pruned: Pruned) -> None:
    from cahp.models.surgery import restore_shapes

    network = restore_shapes(pruned.whole, pruned.cut, pruned.mask)
    network.config.save_pretrained(folder)
    save_file({name: tensor.clone() for name, tensor in network.state_dict().items()}, folder / "toy.safetensors")


TOY = ModelForm(
    key="toy",
    title="Toy",
    loads_with="toys",
    loads="play with it",
    file="toy.safetensors",
    write=write_toy,
    reads=f"""
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification
model = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(folder)).eval()
model.load_state_dict(load_file(folder / "toy.safetensors"))
{formats.TORCH}""",
    tolerance=1e-5,
    card="Play with it.",
)
BITS = MaskForm(
    key="bits",
    title="Bits",
    file="head_mask.txt",
    words="a line of 0 and 1",
    loads="any editor",
    write=lambda mask, _: "".join(map(str, mask.keep.ravel().astype(int))).encode(),
)


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "FORMS", (*formats.FORMS, TOY, BITS))


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    path = tmp_path / "mask.json"
    path.write_text(json.dumps({"0": [1], "2": [0, 3]}))
    return path


@pytest.mark.usefixtures("toys", "read_back_here")
def test_new_forms_are_written_read_back_explained_and_replaced(settings: Settings, mask: Path, tmp_path: Path) -> None:
    asked, out = Settings(model=settings.model, device="cpu"), tmp_path / "out"
    for _ in range(2):
        found = export(asked, mask=mask, format="toy", out=out, store=Store(tmp_path / "store"))
    assert found["difference"] <= 1e-5
    assert found["bytes"] == (out / "toy.safetensors").stat().st_size
    assert "Play with it." in (out / "README.md").read_text()
    assert cahp.read_mask(out / "head_mask.json").count == found["kept"]["heads"] == 9
    lines = list(export_lines(found, Output(out)))
    assert lines[-1].endswith("out (toy): play with it")
    assert lines[-2].startswith("  runs in   transformers (")
    bits = export(asked, mask=mask, format="bits", out=tmp_path / "bits")
    assert (tmp_path / "bits" / bits["file"]).read_text() == "101111110110"


@pytest.mark.usefixtures("read_back_here")
def test_a_runtime_is_timed(settings: Settings, mask: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def times(full: HeadModel, files: Sequence[Path], seconds: float) -> list[Times]:
        assert len({file.read_bytes() for file in files}) == len(files) == 2
        return [Times(Timing(50.0, 51.0, 8, 128, 40), Timing(40.0, 41.0, 8, 128, 40), ratio_of(0.8, 0.78, 0.82))]

    monkeypatch.setattr(formats, "FORMS", (replace(TOY, runtime="toys", times=times),))
    asked = {"mask": mask, "format": "toy", "store": Store(tmp_path / "store"), "recover": "none"}
    found = export(Settings(model=settings.model, device="cpu"), out=tmp_path / "timed", **asked)
    assert [(one.name, one.latency_ms.median) for one in found["files"]] == [("full", 50.0), ("pruned", 40.0)]
    card = (tmp_path / "timed" / "README.md").read_text()
    assert f"| pruned | {size_of(found['files'][1].bytes)} | 40.0 ms | 0.80 × [0.78, 0.82] |" in card
    assert "median of n = 40 rounds in turn" in card
    still = Settings(model=settings.model, device="cpu", latency=False)
    untimed = export(still, out=tmp_path / "untimed", **asked)
    assert untimed["files"] is None
    assert "rounds in turn" not in (tmp_path / "untimed" / "README.md").read_text()


@pytest.mark.usefixtures("toys", "read_back_here")
def test_wrong_form_is_refused(settings: Settings, mask: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    astray = replace(TOY, reads=TOY.reads.replace(".logits.numpy()", ".logits.numpy() + 0.001"))
    monkeypatch.setattr(formats, "FORMS", (astray,))
    with pytest.raises(CahpError, match="toy model was not written: after loading it again"):
        export(Settings(model=settings.model, device="cpu"), mask=mask, format="toy", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    # Rounding alone may make such a difference: then four times that is allowed.
    monkeypatch.setattr(selftest, "measure_rounding", lambda model, batches: 0.0003)
    export(Settings(model=settings.model, device="cpu"), mask=mask, format="toy", out=tmp_path / "out")


def test_a_rounded_model_is_held_to_its_answers_and_another_to_its_logits() -> None:
    def read(tried: int, agreement: float, difference: float = 0.6) -> ReadBack:
        return ReadBack(tried, agreement, difference, np.zeros((tried, 2), dtype=np.float32))

    rounded = replace(TOY, rounded="int8", exact="onnx")
    rounded.check(read(21, 19 / 21))
    with pytest.raises(CahpError, match=r"toy model was not written: .* logits differ by 6\.0e-01"):
        TOY.check(read(21, 1.0))
    with pytest.raises(CahpError, match=r"differ on 2 of 20 \(allowed: 1\).* export it as onnx"):
        rounded.check(read(20, 0.9))
    # Of next tokens, a fifth may differ.
    rounded.check(replace(read(20, 0.8), tokens=True))
    with pytest.raises(CahpError, match="was not written"):
        TOY.check(read(1, 0.0, float("nan")))


def test_forms_refuse_at_once(settings: Settings, mask: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cahp.models.identity.NO_ONNX", {"bert": "it reads backwards"})
    monkeypatch.setattr("cahp.api.export.open_bench", lambda *_, **__: pytest.fail("it was measured"))
    for form in ("onnx", "onnx-int8"):
        said = f"cannot be exported as {form}, since it reads backwards; export it as compact or drop-in$"
        with pytest.raises(OptionError, match=said):
            export(settings, mask=mask, format=form, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_forms_that_plain_classes_load_hold_no_bypass(model: HeadModel) -> None:
    barred = [form.key for form in formats.model_forms() if formats.find_bar(form, model.card, recover="bypass")]
    assert {"standard", "drop-in", "gguf"} <= set(barred)
    assert not {"compact", "onnx", "onnx-int8"} & set(barred)
    with pytest.raises(OptionError, match="as drop-in, since what it is loaded with knows no bypass; export it"):
        formats.check_export(formats.model_form("drop-in"), model.card, recover="bypass")
