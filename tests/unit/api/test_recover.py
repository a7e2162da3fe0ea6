"""A recovered model is what was reported, and takes the place of nothing that would be missed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import pytest
from fakes import prune

from cahp import models
from cahp.api.export import recover
from cahp.output import MARK, UnwrittenError
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import OptionError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("how", ["refit", "finetune"])
def test_a_recovered_model_loads_anywhere_and_answers_as_reported(
    settings: Settings, mask: Path, data: Path, store: Store, tmp_path: Path, how: str, plain_accuracy: Any
) -> None:
    epochs = None if how == "refit" else 1
    found = recover(replace(settings, recover=how), mask=mask, out=tmp_path / "recovered", epochs=epochs, store=store)
    assert found["metrics"]["recovered"]["accuracy"] == plain_accuracy(tmp_path / "recovered", data)
    assert found["kept"] == {"heads": 6, "of": 12}
    if how == "refit":
        refit = found["refit"]
        assert refit.accepted is (refit.kl_after < refit.kl_before)
        assert "on 24 held-out texts" in refit.reason
    else:
        assert [epoch["epoch"] for epoch in found["epochs"]] == [1]


def test_a_recovered_model_can_be_pruned_further(settings: Settings, mask: Path, store: Store, tmp_path: Path) -> None:
    recover(replace(settings, recover="refit"), mask=mask, out=tmp_path / "recovered", store=store)
    again = fakes.quick(tmp_path / "recovered", settings.data, budget="4")
    assert prune(again, store=Store(tmp_path / "store")).mask.count == 4


@pytest.mark.parametrize("given", [{"epochs": 9}, {"learning_rate": 0.5}, {"batch": 7}])
def test_a_refit_takes_no_schedule(settings: Settings, mask: Path, tmp_path: Path, given: dict[str, Any]) -> None:
    named = f"--{next(iter(given)).replace('_', '-')} .*--recover distill, auto, finetune"
    with pytest.raises(OptionError, match=named):
        recover(replace(settings, recover="refit"), mask=mask, out=tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_the_model_itself_is_never_overwritten(settings: Settings, mask: Path, model: Path) -> None:
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    with pytest.raises(OptionError, match=r"--out.*itself|itself.*--out"):
        recover(replace(settings, recover="refit"), mask=mask, out=model)
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before


def test_a_disk_that_fails_is_one_sentence_and_leaves_the_earlier_model(
    settings: Settings, mask: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = fakes.save_model(tmp_path / "out", "roberta")
    (out / MARK).write_text('{"schema": "cahp.folder/1", "files": ["config.json", "model.safetensors"]}')

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", fail)
    with pytest.raises(UnwrittenError, match="No space left"):
        recover(replace(settings, recover="refit"), mask=mask, out=out, store=store)
    assert models.identify(str(out)).family == "roberta"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
