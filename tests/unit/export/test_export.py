"""A downloaded model loads anywhere and answers as reported."""

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import documents
import numpy as np
import pytest
import torch
from safetensors import safe_open

import cahp
from cahp import models
from cahp.api.export import export
from cahp.exports import checkpoints
from cahp.exports.checkpoints import Provenance, checkpoint
from cahp.exports.formats import model_form
from cahp.exports.masks import MaskOrigin, mask_array, mask_json
from cahp.output import Output
from cahp.recoveries import RECOVERIES
from cahp.run.bench import Bench, open_bench
from cahp.run.recoveries import Recovered, cut_model
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import HeadMask, OptionError

MASK = HeadMask(np.array([[True, False, True, False], [False, True, False, False], [True, True, True, True]]))

pytestmark = pytest.mark.usefixtures("read_back_here")


def unpacked(content: bytes, place: Path) -> Path:
    """The folder in a ZIP file."""
    zipfile.ZipFile(io.BytesIO(content)).extractall(place)
    (folder,) = place.iterdir()
    return folder


def test_a_written_model_answers_anywhere_as_recovered(bench: Bench, tmp_path: Path) -> None:
    found = Provenance(findings=("Abilities as pruned: class <b>: kept",))
    content, results = checkpoint(bench, MASK, form=model_form("compact"), provenance=found, recover="distill")
    folder = unpacked(content, tmp_path)
    assert results["difference"] < 1e-5
    assert results["metrics"]["recovered"]["n"] == 30
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert RECOVERIES["distill"].card in card
    # What features found is text and not markup.
    assert "\n\nAbilities as pruned: class &lt;b&gt;: kept.\n\n" in card
    recovered = bench.recoveries.distill(MASK)
    assert results["distill"] == recovered.report
    assert results["refit"] == recovered.start.report
    network = cahp.load_pruned(folder)
    pruned = cut_model(bench.model, MASK, recovered)
    (batch,) = pruned.batches(pruned.tokenize(bench.evaluation.inputs[:8]))
    with torch.no_grad():
        torch.testing.assert_close(network(**batch.tensors).logits, pruned.logits(batch), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("accepted", "applied", "rejected"),
    [((True, False), "refit", "distill"), ((False, False), "none", "refit, distill"), ((False, True), "distill", None)],
)
def test_a_model_card_says_which_steps_of_a_recovery_were_rejected(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accepted: Any, applied: str, rejected: Any
) -> None:
    refitted, distilled = bench.recoveries.refit(MASK), bench.recoveries.distill(MASK)
    start = Recovered(refitted.weights, replace(refitted.report, accepted=accepted[0]))
    made = Recovered(distilled.weights, start.refit, replace(distilled.report, accepted=accepted[1]), start)
    monkeypatch.setattr(bench.recoveries, "recover", lambda *_, **__: made)
    content, _ = checkpoint(bench, MASK, form=model_form("drop-in"), provenance=Provenance(), recover="distill")
    folder = unpacked(content, tmp_path)
    with safe_open(folder / "model.safetensors", "np") as file:
        assert file.metadata()["cahp.recovery"] == applied
    card = " ".join((folder / "README.md").read_text(encoding="utf-8").split())
    assert (f"(held-out texts rejected: {rejected})" in card) is (rejected is not None)


def test_no_model_is_written_into_the_folder_of_the_file_that_it_is_read_from(bench: Bench, tmp_path: Path) -> None:
    card = replace(bench.card, source=str(tmp_path / "out" / "model.gguf"))
    with pytest.raises(OptionError, match="itself, which would be overwritten"):
        checkpoints.claimed(tmp_path / "out", card)
    assert checkpoints.claimed(tmp_path / "other", card).folder == tmp_path / "other"


def test_options_that_need_texts_are_refused_without_them(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "mask.json").write_text(json.dumps({"0": [1, 3], "1": [0, 2, 3]}))
    for option, reason in (
        ({"recover_data": "texts.txt"}, "--recover-data"),
        ({"recover_time": "10m"}, "--recover-time"),
        ({"abilities": True}, "--abilities needs texts"),
    ):
        with pytest.raises(OptionError, match=reason):
            export(settings.model, mask=tmp_path / "mask.json", out=tmp_path / "out", **option)


def test_a_mask_written_again_says_who_chose_it_and_what_was_measured_of_it(settings: Settings, tmp_path: Path) -> None:
    run = documents.run_json()
    sha256 = models.identify(settings.model).origin
    budget = {"requested": None, "attained": 7}
    origin = MaskOrigin("model", "gradient", budget, run["metrics"], model_sha256=sha256)
    written = json.loads(mask_json(MASK, origin))

    def again(name: str, **changed: object) -> dict[str, Any]:
        (tmp_path / f"{name}.json").write_text(json.dumps({**written, **changed}))
        out = tmp_path / name
        export(Settings(model=settings.model), mask=tmp_path / f"{name}.json", format="mask", out=out)
        said: dict[str, Any] = json.loads((out / "head_mask.json").read_text())
        assert said["keep"] == written["keep"]
        return said

    assert again("whole") == written
    by_hand = {**written, "method": "by hand", "budget": {"attained": 7}, "metrics": {}}
    # Of another model nothing is known here, and what nobody writes is not passed on.
    assert again("other", model="another", model_sha256=None) == by_hand
    assert again("broken", metrics={"full": {"accuracy": {"deep": [[[]]]}}}) == by_hand


def test_exports_recover_where_data_are(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mask.json").write_text(json.dumps({"0": [1, 3], "1": [0, 2, 3]}))
    asked: list[tuple[str, Settings]] = []
    made = checkpoints.recovered

    def recovered(bench: Bench, mask: HeadMask, **how: Any) -> Any:
        asked.append((how["recover"], bench.settings))
        return made(bench, mask, **how)

    monkeypatch.setattr(checkpoints, "recovered", recovered)

    def exported(of: Settings, **more: Any) -> dict[str, Any]:
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        more = {"mask": tmp_path / "mask.json", "format": "compact", "store": Store(tmp_path / "store"), **more}
        return {**export(of, out=out, **more), "card": (out / "README.md").read_text()}

    found = exported(replace(settings, recover="auto", recover_time="1h", abilities=True))
    assert "abilities" in found
    assert "roles" not in found
    assert [one.step for one in found["steps"]] == ["pruned", "refit", "distill"]
    assert "Recovery step by step:" in found["card"]
    # Its texts were drawn as a distillation draws them, without their labels.
    assert [(how, one.recover) for how, one in asked] == [("auto", "auto")]
    assert "steps" not in exported(replace(settings, recover="refit"))
    bare = exported(replace(settings, data=None))
    assert (bare["metrics"], [how for how, _ in asked]) == (None, ["auto", "refit"])
    assert "nothing was recovered" in bare["card"]


@pytest.mark.nightly
def test_a_rounded_model_is_measured_beside_the_full_and_the_recovered_one(settings: Settings, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="what runs ONNX files is not installed")
    (tmp_path / "mask.npy").write_bytes(mask_array(MASK))
    out = tmp_path / "int8"
    options = {"mask": tmp_path / "mask.npy", "format": "onnx-int8", "store": Store(tmp_path / "store")}
    found = export(replace(settings, latency_time="0.1s", recover="refit"), out=out, **options)
    assert found["tried"] == 30
    assert found["agreement"] >= 0.95
    assert [one.name for one in found["files"]] == ["full", "recovered", "int8"]
    full, exact, rounded = found["files"]
    assert full.bytes > exact.bytes > rounded.bytes == found["bytes"] == (out / "model.onnx").stat().st_size
    assert full.ratio is None
    assert rounded.ratio.ci95[0] <= rounded.ratio.value <= rounded.ratio.ci95[1]
    assert rounded.latency_ms.repeats == full.latency_ms.repeats >= 3
    # Its figures are those of its answers.
    bench = open_bench(settings, store=Store(tmp_path / "store"))
    session = onnxruntime.InferenceSession(str(out / "model.onnx"))
    right = 0
    for batch in bench.model.batches(bench.model.tokenize(bench.evaluation.inputs), size=512):
        asked = {entry.name: batch.tensors[entry.name].numpy() for entry in session.get_inputs()}
        right += int((session.run(["logits"], asked)[0].argmax(1) == bench.evaluation.labels[batch.rows]).sum())
    accuracy, full_accuracy = found["outcomes"]["int8"]["accuracy"], found["outcomes"]["full"]["accuracy"]
    assert accuracy.value == pytest.approx(right / 30)
    assert accuracy.n == 30
    assert accuracy.low < accuracy.value < accuracy.high
    assert found["delta"]["int8"]["pp"] == pytest.approx(100 * (accuracy.value - full_accuracy.value))
    assert json.loads((out / "metrics.json").read_text())["metrics"]["int8"]["accuracy"] == accuracy.value


def test_a_mask_of_a_run_or_a_model_is_replaced_by_force_alone(settings: Settings, tmp_path: Path) -> None:
    model = Settings(model=settings.model)
    mask = HeadMask.of([0, 1, 2, 5], 3, 4)
    (tmp_path / "run").mkdir()
    for name in ("run.json", "head_mask.json"):
        (tmp_path / "run" / name).write_text('{"schema": "cahp.mask/1"}')
    with pytest.raises(OptionError, match=r"head_mask\.json exists and would be overwritten"):
        export(model, mask=mask, format="mask", out=tmp_path / "run")
    export(model, mask=mask, format="mask", out=Output(tmp_path / "run", force=True))
    # Other files beside a run are no part of it.
    export(model, mask=mask, format="npy", out=tmp_path / "run")


def test_a_name_with_the_ending_of_a_file_is_that_of_the_mask_and_no_folder(settings: Settings, tmp_path: Path) -> None:
    model = Settings(model=settings.model)
    mask = HeadMask.of([0, 1, 2, 5], 3, 4)
    written = export(model, mask=mask, format="mask", out=tmp_path / "m.json")
    assert written["file"] == "m.json"
    assert cahp.read_mask(tmp_path / "m.json").sha256 == mask.sha256
    with pytest.raises(OptionError, match="has another ending"):
        export(model, mask=mask, format="npy", out=tmp_path / "mask.json")
    with pytest.raises(OptionError, match="is the name of a file; name a folder"):
        export(settings, mask=mask, format="compact", out=tmp_path / "m.json")
