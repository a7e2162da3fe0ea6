"""The forms of export: one table.

The command line, the Export page, the documentation, the model card in an exported folder, and the check of a written
model all read ``FORMS``. A new form is one entry here, its texts in ``formats.toml``, and its row in the documentation,
which a test compares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cahp import models
from cahp.exports.form import MaskForm, ModelForm, Pruned, Refuse
from cahp.exports.masks import (
    MaskOrigin,
    heads_to_prune_json,
    mask_array,
    mask_csv,
    mask_json,
    mask_pattern,
    mask_tensor,
)
from cahp.files import read_beside
from cahp.models.cards import DERIVED_SIZE, EVENLY, FAMILIES, NO_ONNX_CACHE, ModelCard
from cahp.models.identity import output_head
from cahp.recoveries import NONE, RECOVERIES
from cahp.values import HeadMask, OptionError, check_known

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel

# Python code that loads written models, run in a fresh process to check them, and shown in their README ----------


GGUF_FILE = "model.gguf"
ONNX_FILE = "model.onnx"
TORCH = """
import torch
def answer(batch):
    with torch.inference_mode():
        return model(**{name: torch.from_numpy(value) for name, value in batch.items()}).logits.numpy()
"""
COMPACT_READS = f"""
import sys
sys.path.insert(0, str(folder))
from load_pruned import load_pruned
model = load_pruned(folder)
{TORCH}"""
PLAIN_READS = f"""
from transformers import AutoModelForSequenceClassification
model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
{TORCH}"""
#: Reads a GGUF file without llama.cpp; see there.
GGUF_READS = (Path(models.__file__).parent / "run_gguf.py").read_text(encoding="utf-8") + (
    f"\nmodel = read_gguf(folder / '{GGUF_FILE}')\n{TORCH}"
)
#: Runs the ``session`` of a language model with a cache; numpy is imported.
ONNX_STEPS = """\
def read(ids, mask, cache=None):
    # The logits of new tokens, and the cache with them. The mask of all tokens is 0 for padding.
    places = [entry for entry in session.get_inputs() if entry.name.startswith("past_key_values")]
    if cache is None:
        shapes = [[size if isinstance(size, int) else 0 for size in entry.shape[1:]] for entry in places]
        cache = [numpy.zeros((len(ids), *shape), numpy.float32) for shape in shapes]
    past = {entry.name: values for entry, values in zip(places, cache)}
    logits, *cache = session.run(None, {"input_ids": ids, "attention_mask": mask, **past})
    return logits, cache


def write(ids, mask, count):
    # The texts with so many more tokens, each the most likely one.
    new, cache = ids, None
    for _ in range(count):
        logits, cache = read(new, mask, cache)
        new = logits[:, -1:].argmax(-1)
        ids, mask = numpy.concatenate([ids, new], 1), numpy.concatenate([mask, numpy.ones_like(new)], 1)
    return ids
"""
#: Runs an ONNX file, with rounded weights or not, and with a cache or not.
ONNX_READS = f"""
import numpy
import onnxruntime
session = onnxruntime.InferenceSession(str(folder / "{ONNX_FILE}"), providers=["CPUExecutionProvider"])
wanted = [entry.name for entry in session.get_inputs()]
cached = len(session.get_outputs()) > 1
{ONNX_STEPS}
def answer(batch):
    if not cached:
        return session.run(["logits"], {{name: batch[name] for name in wanted}})[0]
    ids, mask = batch["input_ids"], batch["attention_mask"]
    # In pieces, so that the cache counts: half of the text, most of the other half, and two single tokens.
    length, parts, cache, start = ids.shape[1], [], None, 0
    for end in sorted({{max(1, length // 2), max(1, length - 2), max(1, length - 1), length}}):
        logits, cache = read(ids[:, start:end], mask[:, :end], cache)
        parts.append(logits)
        start = end
    return numpy.concatenate(parts, axis=1)
"""
# Writing models and reading them back ---------------------------------------------------------------------------


def _models(name: str) -> Any:
    """Return a module of ``cahp.models``; importing it takes seconds."""
    return import_module(f"cahp.models.{name}")


def _time_onnx(full: HeadModel, files: Sequence[Path], seconds: float) -> Any:
    return import_module("cahp.stages.latency").measure_onnx(full, files, seconds=seconds)


def _write_int8(folder: Path, pruned: Pruned) -> None:
    assert pruned.exact is not None
    _models("saving").save_onnx_int8(folder / ONNX_FILE, pruned.exact / ONNX_FILE)


def _refuse_onnx(card: ModelCard, mask: HeadMask | None, adder: str) -> str | None:
    by_saving = {"cache": NO_ONNX_CACHE.get(card.family)}
    return card.no_cut or card.no_onnx or by_saving.get(card.saves)


_TEXTS = read_beside(__file__)
#: What the forms of a model were tried in, with the versions.
RUNTIMES: dict[str, str] = _TEXTS["runtimes"]
UNTRIED = "not tried"


def _refuse_standard(card: ModelCard, mask: HeadMask | None, adder: str) -> str | None:
    if card.family in FAMILIES:
        return DERIVED_SIZE
    units = 1
    uneven = None
    if mask is not None:
        fewest, most = min(mask.counts), max(mask.counts)
        if fewest == most:
            units = most
        else:
            uneven = (
                f"it needs the same number of heads in every layer, and the mask keeps {fewest} to {most}; {EVENLY}"
            )
    return card.no_cut or _models("saving").refuse_standard(card, units=units, adder=adder) or uneven


def _refuse_biases(card: ModelCard, mask: HeadMask | None, adder: str) -> str | None:
    if adder and card.family not in FAMILIES and _models("saving").lacks_output_bias(card):
        return f"its output projections have no bias, and {adder} needs one"
    return None


def _refuse_gguf(card: ModelCard, mask: HeadMask | None, adder: str) -> str | None:
    return card.no_cut or _models("to_gguf").refuse_gguf(card, mask, adder=adder)


def _refuse_gguf_types(card: ModelCard, mask: HeadMask | None, adder: str) -> str | None:
    if card.source is None:
        return "its source is not a GGUF file, whose types would be kept"
    return _refuse_gguf(card, mask, adder)


def _form(key: str, how: str, **code: Any) -> ModelForm:
    """Return a form with its texts; ``how`` names the words that tell how it is loaded."""
    row = dict(_TEXTS["models"][key])
    opening = row.pop("card")
    cards = {saves: opening + text.replace("STEPS\n", ONNX_STEPS) for saves, text in _TEXTS["cards"][how].items()}
    return ModelForm(key=key, card=cards.pop("text"), cards=cards, **row, **code)


def _gguf(key: str, kind: str, refuse: Refuse = _refuse_gguf) -> ModelForm:
    """Return a GGUF form of this kind of weights."""

    def write(folder: Path, pruned: Pruned) -> Any:
        return _models("to_gguf").save_gguf(folder / GGUF_FILE, pruned.cut, pruned.mask, kind=kind)

    return _form(key, "gguf", refuse=refuse, write=write, reads=GGUF_READS)


_MODEL_FORMS = (
    _form(
        "compact",
        "compact",
        write=lambda folder, pruned: _models("saving").save_compact(folder, pruned.cut, pruned.mask),
        reads=COMPACT_READS,
        library=None,
    ),
    _form(
        "standard",
        "plain",
        refuse=_refuse_standard,
        write=lambda folder, pruned: _models("saving").save_standard(folder, pruned.cut, pruned.mask),
        reads=PLAIN_READS,
    ),
    _form(
        "drop-in",
        "plain",
        refuse=_refuse_biases,
        write=lambda folder, pruned: _models("saving").save_drop_in(folder, pruned.whole, pruned.cut, pruned.mask),
        reads=PLAIN_READS,
    ),
    _gguf("gguf", "F32"),
    _gguf("gguf-f16", "F16"),
    _gguf("gguf-q8", "Q8_0"),
    _gguf("gguf-types", "source", _refuse_gguf_types),
    _form(
        "onnx",
        "onnx",
        refuse=_refuse_onnx,
        write=lambda folder, pruned: _models("saving").save_onnx(
            folder / ONNX_FILE, pruned.cut, pruned.mask, pruned.inputs
        ),
        reads=ONNX_READS,
        times=_time_onnx,
    ),
    _form("onnx-int8", "onnx", refuse=_refuse_onnx, write=_write_int8, reads=ONNX_READS, times=_time_onnx),
)

_MASK_WRITERS: dict[str, Callable[[HeadMask, MaskOrigin], bytes]] = {
    "mask": mask_json,
    "npy": lambda mask, _: mask_array(mask),
    "pt": lambda mask, _: mask_tensor(mask),
    "csv": mask_csv,
    "duo-attention": lambda mask, _: mask_pattern(mask),
    "heads-to-prune": lambda mask, _: heads_to_prune_json(mask),
}
_MASK_FORMS = [MaskForm(key=key, write=write, **_TEXTS["masks"][key]) for key, write in _MASK_WRITERS.items()]

#: All forms, in the order in which they are offered.
FORMS: tuple[ModelForm | MaskForm, ...] = (*_MODEL_FORMS, *_MASK_FORMS)


# Finding forms ---------------------------------------------------------------------------------------------------


def model_forms() -> list[ModelForm]:
    """Return the forms of a model."""
    return [form for form in FORMS if isinstance(form, ModelForm)]


def mask_forms() -> list[MaskForm]:
    """Return the forms of a mask."""
    return [form for form in FORMS if isinstance(form, MaskForm)]


def find(key: str) -> ModelForm | MaskForm:
    """Return the form with this key.

    Raises:
        OptionError: If there is none.
    """
    forms = {form.key: form for form in FORMS}
    check_known("--format", key, forms)
    return forms[key]


def model_form(key: str) -> ModelForm:
    """Return the form of a model with this key.

    Raises:
        OptionError: If there is none, or it is a form of a mask.
    """
    forms = {form.key: form for form in model_forms()}
    check_known("form of a model", key, forms)
    return forms[key]


def find_bar(form: ModelForm, card: ModelCard, mask: HeadMask | None = None, recover: str = NONE.name) -> str | None:
    """Return why a model cannot be written in a form, cut to a mask (None: any) and recovered (None: it can)."""
    row = RECOVERIES[recover]
    if row.adds_bypass and not form.holds_bypass:
        return f"what it is loaded with knows no {row.noun}"
    adder = ""
    if row.adds_biases:
        adder = row.noun
    return form.refuse(card, mask, adder)


def check_export(form: ModelForm, card: ModelCard, mask: HeadMask | None = None, recover: str = NONE.name) -> None:
    """Check that a model can be written in a form, cut to a mask (None: any) and recovered.

    Raises:
        OptionError: If not, with the reason and the possible forms.
    """
    if (reason := find_bar(form, card, mask, recover)) is not None:
        others = (other.key for other in model_forms() if find_bar(other, card, mask, recover) is None)
        raise OptionError(
            f"{card.id} cannot be exported as {form.key}, since {reason}; export it as {' or '.join(others)}"
        )


def describe_runtimes(form: ModelForm) -> str:
    """Return where a form runs, with the versions that were tried."""
    cells = (f"{name} ({version}): {form.runs_in.get(name, UNTRIED)}" for name, version in RUNTIMES.items())
    return ", ".join(cells)


#: The class that loads a model, by what is above its layers.
_CLASSES = {"classification": "ForSequenceClassification", "causal": "ForCausalLM", "masked": "ForMaskedLM"}


def name_class(text: str, card: ModelCard) -> str:
    """Return code or words of a form with the class of a model of this ``card``."""
    return text.replace(_CLASSES["classification"], _CLASSES[output_head(card)])


def option_help() -> str:
    """Return the help of ``--format``."""
    models = ", ".join(form.key for form in model_forms())
    masks = ", ".join(form.key for form in mask_forms())
    return f"{models}; or the mask alone: {masks}."


#: The files that describe an exported folder.
CARD_FILE = "README.md"
FIGURES_FILE = "metrics.json"
MASK_FILE = "head_mask.json"
