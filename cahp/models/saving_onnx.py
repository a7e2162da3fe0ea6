"""Save pruned networks as ONNX files, in float32 or with 8-bit weights, and check that they write text with a cache."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cahp.files import scratch
from cahp.models import saving, to_onnx
from cahp.models.head_model import HeadModel
from cahp.models.saving import ReadBack
from cahp.models.weights import WEIGHTS
from cahp.tasks.texts import Item
from cahp.values import HeadMask

#: The number of tokens that a written language model adds to a text.
WRITTEN = 20
_BEGINNING = "Once upon a time"


def save_onnx(file: Path, pruned: HeadModel, mask: HeadMask, inputs: Sequence[Item]) -> None:
    """Save ``pruned`` (cut to ``mask``) as an ONNX file for any batch size and length, with its configuration.

    A fresh process traces the network with ``inputs``. A causal language model takes and returns its cache.

    Raises:
        CahpError: If the network cannot be traced.
    """
    saving.save_compact(file.parent, pruned, mask)
    # Two texts of different length, so that the traced batch contains padding; windows have one length.
    tokens = sorted(pruned.tokenize(inputs), key=lambda entry: len(entry["input_ids"]))
    short = tokens[0]
    long = tokens[-1]
    if len(short["input_ids"]) == len(long["input_ids"]):
        short = {name: values[: max(1, len(values) // 2)] for name, values in short.items()}
    batches = pruned.batches([short, long], size=2 * len(long["input_ids"]))
    source = Path(to_onnx.__file__).read_text(encoding="utf-8")
    with scratch() as temporary:
        saving.in_new_process(
            f"{source}\nmain(cached={pruned.card.cache is not None})\n",
            file.parent,
            saving.save_batches(temporary, batches),
            file,
            failure=f"the ONNX exporter cannot write {pruned.card.id} ({{}}); export it as compact or drop-in",
        )
    for name in (WEIGHTS, saving.LOADER):
        (file.parent / name).unlink()


def save_onnx_int8(file: Path, exact: Path) -> None:
    """Save the ONNX file ``exact`` with 8-bit weights as ``file``, with its configuration.

    Activations are rounded at run time (dynamic quantization).

    Raises:
        CahpError: If it cannot be quantized.
    """
    saving.in_new_process(_TO_INT8, exact, file)
    for path in exact.parent.glob("*config.json"):
        shutil.copyfile(path, file.parent / path.name)


def compare_writing(folder: Path, reads: str, pruned: HeadModel, read: ReadBack) -> ReadBack:
    """Let the model in ``folder`` write text in a fresh process, and add to ``read`` how far it is off ``pruned``.

    The Python code ``reads`` defines ``write`` from the path ``folder``: it takes tokens ``(1, n)``, their mask and a
    number, and returns the tokens with so many more, each the most likely one by the model's cache. The difference is
    the largest one between the best logit in memory and that of the written token, relative to logits beyond 1; it is
    0 if the model in memory writes the same.

    Raises:
        CahpError: If the folder cannot be read.
    """
    (tokens,) = pruned.tokenize(pruned.examples([_BEGINNING]))
    prompt = np.array([tokens["input_ids"]])
    with scratch() as temporary:
        given = temporary / "given.npy"
        written = temporary / "written.npy"
        np.save(given, prompt)
        saving.in_new_process(f"{_READ}{reads}{_WRITE.format(count=WRITTEN)}", folder, given, written)
        ids = torch.from_numpy(np.load(written)).to(pruned.device)
    with torch.no_grad():
        logits = pruned.network(input_ids=ids[:, :-1], use_cache=False).logits[0, prompt.shape[1] - 1 :]
    missing = logits.amax(-1) - logits.gather(1, ids[0, prompt.shape[1] :, None])[:, 0]
    difference = float(missing.max()) / max(1.0, float(logits.abs().max()))
    return replace(read, differences=(*read.differences, difference), written=WRITTEN)


# The fresh process ---------------------------------------------------------------------------------------------------

_READ = """
import sys
from pathlib import Path
folder, prompt, written = map(Path, sys.argv[1:])
"""
_WRITE = """
import numpy
ids = numpy.load(prompt)
numpy.save(written, write(ids, numpy.ones_like(ids), {count}))
"""
#: Reads a file with float32 weights and writes one with 8-bit weights.
_TO_INT8 = """
import sys, warnings
warnings.simplefilter("ignore")
from onnxruntime.quantization import QuantType, quantize_dynamic
# Weights use 7 of the 8 bits: products of 8 bits would overflow on processors without instructions for them.
quantize_dynamic(sys.argv[1], sys.argv[2], weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)
"""
