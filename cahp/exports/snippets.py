"""Python code that loads written models: run in a fresh process to check them, and shown in their README.

The former makes ``answer`` from the path ``folder``; see ``ModelForm``. In the latter, ``FOLDER`` stands for the path.
"""

from __future__ import annotations

from pathlib import Path

from cahp import models

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
The layers have different numbers of heads. `per_layer_config` in `config.json` states them as transformers 5 defines
it, but the classes of transformers up to 5.24 build all layers alike and refuse these weights. So the file
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

Where cahp-explorer is installed, `cahp.load_pruned("FOLDER")` does the same, and `cahp evaluate --model FOLDER`
evaluates it.
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
#: Computes the logits of a GGUF file without llama.cpp; see there.
GGUF_READS = (Path(models.__file__).parent / "run_gguf.py").read_text(encoding="utf-8") + (
    f"\nanswer = read_gguf(folder / '{GGUF_FILE}')\n"
)
GGUF_CARD = f"""\
`{GGUF_FILE}` holds the smaller model in float32, with its tokenizer. If the layers keep
different numbers of heads, it is of llama.cpp's architecture `deci`, which lists them.

```
llama-cli --model FOLDER/{GGUF_FILE} --prompt "Once upon a time"
llama-quantize FOLDER/{GGUF_FILE} smaller.gguf Q8_0
```

```python
from llama_cpp import Llama

print(Llama("FOLDER/{GGUF_FILE}")("Once upon a time", max_tokens=20, temperature=0.0))
```
"""
_GGUF_LOADS = GGUF_CARD[GGUF_CARD.index("```\n") :].replace(
    f"llama-quantize FOLDER/{GGUF_FILE} smaller.gguf Q8_0\n", ""
)
GGUF_TYPES_CARD = f"""\
`{GGUF_FILE}` holds the smaller model in the number types of its source, with its tokenizer. If the layers keep
different numbers of heads, it is of llama.cpp's architecture `deci`, which lists them.

{_GGUF_LOADS}"""
#: Runs the ``session`` of a language model with a cache; numpy is imported.
ONNX_STEPS = """\
def read(ids, mask, cache=None):
    # The logits of new tokens, and the cache with them. The mask of all tokens is 0 for padding.
    places = [entry for entry in session.get_inputs() if entry.name.startswith("past_key_values")]
    if cache is None:
        cache = [numpy.zeros((len(ids), entry.shape[1], 0, entry.shape[3]), numpy.float32) for entry in places]
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
takes the keys and values of the tokens before them (`past_key_values.0.key`, ...), and it returns those of all tokens
(`present.0.key`, ...) beside the logits. So one file reads a text, with an empty cache, and then writes token by token.
Batch and length are free; shorter texts of a batch are padded on the left.

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
GENERATING = """\
## Generate text

```python
inputs = tokenizer("Once upon a time", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=20, do_sample=False)[0]))
```
"""
