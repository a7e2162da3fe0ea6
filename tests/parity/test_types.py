"""Every text classifier of transformers that a configuration describes: proven, or refused for a reason of its own."""

import re
from pathlib import Path

import fakes
import guide
import numpy as np
import pytest
import torch
import zoo
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging

from cahp import models
from cahp.api.preflight import preflight
from cahp.exports import formats
from cahp.models import saving, to_onnx
from cahp.models.attention import PooledProbe
from cahp.models.cards import FAMILIES, NO_ONNX, REFUSED
from cahp.models.compact import load_pruned
from cahp.models.head_model import Batch, HeadModel
from cahp.models.surgery import cut, tail
from cahp.stages.recovery import solve
from cahp.terminal.printing import preflight_lines
from cahp.values import HeadMask, ModelError, OptionError

TABLE = guide.marked("types").splitlines()[2:]
ROWS = {line.split("|")[1].strip(): line for line in TABLE}
PROVEN = sorted(set(zoo.TYPES) - set(REFUSED))
#: Types that many people use. These, and one type for each different row of the table, are proven in each run.
_POPULAR = "distilbert electra gemma3_text gpt_neox llama mbart mistral phi3 qwen3 roberta t5"
POPULAR = set(_POPULAR.split())
SAMPLE = (
    POPULAR | set({ROWS[kind].split("|", 2)[2]: kind for kind in PROVEN if kind in ROWS}.values()) | {*fakes.SAMPLE}
)
#: Types whose heads can be masked alone.
NO_CUT = ("doge", "lilt")
#: Types that the exporter to ONNX would take minutes for, even so small.
SLOW = ("qwen3_5_text", "qwen3_next")
#: A text of more tokens than any that a file is traced with.
LONG = ["film"] * 40


def uneven(model: HeadModel) -> HeadMask:
    keep = np.zeros((model.layers, model.heads), dtype=np.bool_)
    for layer in range(model.layers):
        keep[layer, : 1 + layer % (model.heads - 1)] = True
    return HeadMask(keep[:, ::-1].copy())


def alike(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> bool:
    return bool((found - expected).abs().max() <= tolerance * max(1.0, float(expected.abs().max())))


def check_maps(model: HeadModel, plain: object, batch: Batch) -> None:
    """What signatures are made of is what the library itself returns."""
    with torch.no_grad():
        out = plain(**batch.tensors, output_attentions=True)  # type: ignore[operator]
    returned = getattr(out, "encoder_attentions", None) or getattr(out, "attentions", None) or ()
    if model.family.shared:
        # A layer that serves several passes shows their mean.
        maps = torch.stack(returned).unflatten(0, (model.layers, -1)).mean(1)
    else:
        places = model.card.places or tuple(range(model.layers))
        maps = returned if len(returned) == model.layers else [returned[place] for place in places]
    seen: dict[int, torch.Tensor] = {}
    model.logits(batch, probe=lambda layer, weights: seen.update({layer: weights}))
    real = batch.tensors["attention_mask"].bool()
    found, pooled = dict[int, torch.Tensor](), dict[int, torch.Tensor]()
    model.logits(batch, probe=PooledProbe.of(real, 4, model.device, found.__setitem__, maps_up_to=0))
    whole = PooledProbe.of(real, 4, model.device, pooled.__setitem__)
    for layer, expected in enumerate(maps):
        mean = expected.unflatten(1, (model.heads, model.card.group)).mean(2)
        assert alike(seen[layer] * real[:, None, :, None], mean * real[:, None, :, None], 1e-5)
        whole(layer, mean)
        assert alike(found[layer], pooled[layer], 1e-5)


def check_tails(model: HeadModel, batch: Batch) -> None:
    """What goes on from the hidden states of an earlier layer comes to the same answer."""
    left: list[torch.Tensor] = []
    whole = model.logits(batch, leaving=left.append)
    for layer in range(1, model.layers):
        rest = tail(model, layer)
        assert (rest is not None) is model.has_tails
        if rest is not None:
            assert alike(rest.logits(batch, start=left[layer - 1]), whole, 1e-5)


@pytest.mark.parametrize("kind", fakes.rarely(PROVEN, SAMPLE))
def test_a_type_is_the_library_s_masks_as_it_cuts_and_is_exported(kind: str, tmp_path: Path) -> None:
    logging.disable_progress_bar()
    folder = zoo.save(tmp_path / "model", kind, seed=3)
    model = models.load(str(folder), device="cpu")
    assert ROWS[kind] == zoo.type_row(kind, model)
    plain = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()
    (batch,) = model.batches(model.tokenize(fakes.sentences(5).inputs))
    with torch.no_grad():
        assert alike(model.logits(batch), plain(**batch.tensors).logits, 1e-4)
    check_maps(model, plain, batch)
    # The self-test of the load has cut two random masks; this is a third one, and what is sent out.
    mask = uneven(model)
    before, masked = model.logits(batch), model.logits(batch, gates=model.gates(mask.keep))
    pruned = cut(model, mask)
    assert pruned.head_counts == (model.head_counts if model.family.no_cut else mask.counts)
    assert alike(pruned.logits(batch), masked, 1e-5)
    assert torch.equal(model.logits(batch), before)
    check_tails(pruned, batch)
    (tmp_path / "drop-in").mkdir()
    saving.save_drop_in(tmp_path / "drop-in", model, pruned, mask)
    dropped = AutoModelForSequenceClassification.from_pretrained(tmp_path / "drop-in").eval()
    with torch.no_grad():
        assert alike(dropped(**batch.tensors).logits, masked, 1e-4)
    if not model.family.no_cut:
        assert pruned.parameters < model.parameters
        (tmp_path / "compact").mkdir()
        saving.save_compact(tmp_path / "compact", pruned, mask)
        with torch.no_grad():
            assert alike(load_pruned(tmp_path / "compact")(**batch.tensors).logits, masked, 1e-4)
        model.tokenizer.save_pretrained(tmp_path / "compact")
        assert alike(models.load(str(tmp_path / "compact"), device="cpu").logits(batch), masked, 1e-5)
    if not model.card.no_refit:
        assert solve(model, mask, fakes.sentences(6).inputs).logits(batch).isfinite().all()


@pytest.mark.parametrize("kind", sorted(set(zoo.TYPES) & set(REFUSED)))
def test_an_unsupported_type_is_refused_with_its_reason(kind: str, tmp_path: Path) -> None:
    logging.disable_progress_bar()
    zoo.configuration(kind).save_pretrained(tmp_path)
    with pytest.raises(ModelError) as refused:
        models.identify(str(tmp_path))
    assert REFUSED[kind] in str(refused.value)
    assert str(refused.value).count(". ") == 0


def as_onnx(kind: str, folder: Path) -> tuple[HeadModel, float]:
    """A pruned model of the type, and how far the logits of its ONNX file are off, at lengths that it was not made of.

    Raises whatever the exporter or the runtime does where there can be no file, or none of any use.
    """
    runtime = pytest.importorskip("onnxruntime")
    model = models.load(str(zoo.save(folder / "model", kind, seed=3)), device="cpu")
    mask, worst = uneven(model), 0.0
    pruned, file = cut(model, mask), folder / "onnx" / "model.onnx"
    file.parent.mkdir()
    saving.save_onnx(file, pruned, mask, fakes.sentences(6).inputs)
    session = runtime.InferenceSession(str(file))
    for batch in model.batches(model.tokenize([*fakes.sentences(9, seed=4).inputs, " ".join(LONG)]), size=64):
        asked = {entry.name: batch.tensors[entry.name].numpy() for entry in session.get_inputs()}
        (found,), expected = session.run(None, asked), pruned.logits(batch).numpy()
        worst = max(worst, float(np.abs(found - expected).max()) / max(1.0, float(np.abs(expected).max())))
    return model, worst


def check_onnx(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the card says of ONNX is so."""
    monkeypatch.setattr(saving, "in_new_process", fakes.in_this_process)
    if kind in NO_ONNX:
        try:
            _, worst = as_onnx(kind, folder)
        except Exception:
            return
        assert worst > 1e-4
    else:
        model, worst = as_onnx(kind, folder)
        assert model.card.no_onnx is None
        assert worst <= 1e-4


@pytest.mark.parametrize("kind", ["deepseek_v3", "gpt_oss", "mixtral", "qwen2_moe"])
def test_experts_are_written_in_operations_that_the_exporter_knows(kind: str, tmp_path: Path) -> None:
    model = models.load(str(zoo.save(tmp_path, kind, seed=3)), device="cpu")
    (batch,) = model.batches(model.tokenize(fakes.sentences(5).inputs))
    expected = model.logits(batch)
    with to_onnx.writable(model.network), torch.no_grad():
        assert alike(model.network(**batch.tensors).logits, expected, 1e-5)
        assert to_onnx.EVERY in model.network.get_experts_implementation().values()


@pytest.mark.nightly
@pytest.mark.parametrize("kind", sorted(set(PROVEN) - {*SLOW, *NO_CUT}))
def test_the_table_says_which_can_become_onnx_files(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_onnx(kind, tmp_path, monkeypatch)


def test_preflight_names_models_without_onnx_export(tmp_path: Path) -> None:
    card = models.identify(str(zoo.save(tmp_path / "model", "qwen3_next")))
    said = list(preflight_lines(preflight(card)))
    assert ["exports", "compact, standard, drop-in"] in [line.split(maxsplit=1) for line in said]
    assert f"  note: no ONNX export: {NO_ONNX['qwen3_next']}" in said
    with pytest.raises(
        OptionError, match=r"as onnx, since its layers .*; export it as compact or standard or drop-in$"
    ):
        formats.check_export(formats.model_form("onnx"), card)
    uncut = models.identify(str(zoo.save(tmp_path / "uncut", "doge")))
    assert ["exports", "drop-in"] in [line.split(maxsplit=1) for line in preflight_lines(preflight(uncut))]
    assert set(NO_ONNX) < set(PROVEN)


def test_a_model_whose_parts_do_not_fit_together_is_refused_in_a_sentence(tmp_path: Path) -> None:
    logging.disable_progress_bar()
    folder = zoo.save(tmp_path, "layoutlmv3", coordinate_size=5)
    with pytest.raises(ModelError, match="cannot classify a plain sentence"):
        models.load(str(folder), device="cpu")


def test_enough_types_are_proven_and_the_table_lists_each_once() -> None:
    assert len(PROVEN) >= 90
    assert sorted(ROWS) == PROVEN == [re.split(r" *\| *", line)[1] for line in TABLE]
    assert set(FAMILIES) <= set(PROVEN)
