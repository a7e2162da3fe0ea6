"""Write pruned networks to folders that other programs load, and check such a folder in a fresh process.

A *compact* folder has smaller layers and the file that loads them. A *drop-in* folder has the shapes of the original,
with zeros for pruned heads. *ONNX* is the compact network for other runtimes, in float32 or with 8-bit weights.
``cahp.exports.formats`` describes these formats to users.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save_model

from cahp.files import scratch
from cahp.models import compact, to_onnx
from cahp.models.description import output_head
from cahp.models.head_model import Batch, HeadModel
from cahp.models.sketch import quiet
from cahp.models.surgery import restore_shapes, separate, sizes
from cahp.models.weights import CONFIG, WEIGHTS
from cahp.values import CahpError, HeadMask, Input

#: The file that loads a compact model where this package is not installed.
_LOADER = "load_pruned.py"


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Save a tokenizer without the truncation and padding of the texts that it encoded last."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
    tokenizer.save_pretrained(folder)


def save_compact(folder: Path, pruned: HeadModel, mask: HeadMask) -> None:
    """Save a network that was cut to ``mask``: its configuration, its weights, and the file that loads them.

    Raises:
        CahpError: If the heads of its family can be masked but not cut out.
    """
    family, card = pruned.family, pruned.card
    if family.no_cut is not None:
        raise CahpError(
            f"heads of {card.id} can be masked but not cut out ({family.no_cut}); export the model as drop-in"
        )
    # See ``cahp.models.compact`` for these entries.
    names = {id(module): name for name, module in pruned.network.named_modules()}
    attributes, planes, selects = dict[str, Any](), dict[str, Any](), dict[str, Any]()
    for layer, (module, kept) in enumerate(zip(pruned.layer_modules, mask.by_layer, strict=True)):
        path = names[id(module.get_submodule(family.attention))]
        channels = pruned.projection(layer).weight.shape[1]
        if family.sizes:
            attributes[path] = sizes(family, units=len(kept), group=card.group, channels=channels)
        if family.planes is not None:
            planes[path] = [family.planes, card.heads, kept]
        if family.selects:
            selects[path] = [card.heads, card.group, kept]
    config = pruned.network.config.to_diff_dict()
    config["architectures"] = [type(pruned.network).__name__]
    config["cahp"] = {
        "schema": compact.SCHEMA,
        "head": output_head(card),
        "heads_per_layer": card.heads,
        "kept": mask.by_layer,
        "attributes": attributes,
        "planes": planes,
        "selects": selects,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if card.language == "causal" and pruned.prompt is not None:
        pruned.network.generation_config.save_pretrained(folder)
    for parameter in pruned.network.parameters():
        # Some libraries keep two projections in one storage, and safetensors cannot save a part of a storage.
        if parameter.untyped_storage().nbytes() > parameter.nbytes:
            parameter.data = parameter.data.clone()
    save_model(pruned.network, str(folder / WEIGHTS), metadata={"format": "pt"})
    shutil.copyfile(compact.__file__, folder / _LOADER)


def save_drop_in(folder: Path, model: HeadModel, pruned: HeadModel, mask: HeadMask) -> None:
    """Save ``pruned`` (``model`` cut to ``mask``) in the shapes of ``model``, with zeros for pruned heads."""
    with quiet():
        restore_shapes(model, pruned, mask).save_pretrained(folder)


def save_onnx(file: Path, pruned: HeadModel, mask: HeadMask, inputs: Sequence[Input]) -> None:
    """Save ``pruned`` (cut to ``mask``) as an ONNX file for any batch size and length, with its configuration.

    A fresh process traces the network with ``inputs``.

    Raises:
        CahpError: If the network cannot be traced.
    """
    save_compact(file.parent, pruned, mask)
    # Two texts of different length, so that the traced batch contains padding.
    tokens = sorted(pruned.tokenize(inputs), key=lambda entry: len(entry["input_ids"]))
    batches = pruned.batches([tokens[0], tokens[-1]], size=2 * len(tokens[-1]["input_ids"]))
    source = Path(to_onnx.__file__).read_text(encoding="utf-8")
    with scratch() as temporary:
        try:
            _in_new_process(f"{source}\nmain()\n", file.parent, _save_batches(temporary, batches), file)
        except _FailedError as error:
            raise CahpError(
                f"the ONNX exporter cannot write {pruned.card.id} ({error.reason}); export it as compact or drop-in"
            ) from error
    for name in (WEIGHTS, _LOADER):
        (file.parent / name).unlink()


def save_onnx_int8(file: Path, exact: Path) -> None:
    """Save the ONNX file ``exact`` with 8-bit weights as ``file``, with its configuration.

    Activations are rounded at run time (dynamic quantization).

    Raises:
        CahpError: If it cannot be quantized.
    """
    _in_new_process(_TO_INT8, exact, file)
    for path in exact.parent.glob("*config.json"):
        shutil.copyfile(path, file.parent / path.name)


@dataclass(frozen=True, eq=False)
class ReadBack:
    """Scores ``(n, C)`` of the same texts: ``found`` by the saved model, ``expected`` by the model in memory."""

    found: NDArray[np.float64]
    expected: NDArray[np.float64]
    #: The largest difference of logits in each batch, relative to the batch's largest logit where that is above 1.
    differences: tuple[float, ...]

    @property
    def difference(self) -> float:
        """The largest of ``differences``; NaN if a logit is NaN."""
        return float(np.max([0.0, *self.differences]))

    @property
    def agreement(self) -> float:
        """The share of texts with the same prediction."""
        return float((self.found.argmax(axis=1) == self.expected.argmax(axis=1)).mean())


def read_back(folder: Path, reads: str, pruned: HeadModel, inputs: Sequence[Input]) -> ReadBack:
    """Load the model in ``folder`` in a fresh process, and compare its logits of ``inputs`` with those of ``pruned``.

    The Python code ``reads`` defines a function ``answer`` from the path ``folder``. The function takes a batch (arrays
    by name) and returns the logits, of a language model for every token. The fresh process cannot import this package,
    which is also missing on the machines where people load the model.

    Raises:
        CahpError: If the folder cannot be read.
    """
    if pruned.device.type != "cpu":
        # The fresh process computes on the processor, and another device sums products in another order.
        pruned = pruned.around(separate(pruned).network.to("cpu"))
    batches = pruned.batches(pruned.tokenize(inputs), size=512)
    scores = _SCORES if pruned.prompt is None else pruned.prompt.scores_code
    # Predictions come from the logits of the classes, differences from those of the whole vocabulary.
    classes = slice(None) if pruned.prompt is None else [answer.token for answer in pruned.prompt.answers]
    found, expected = (np.zeros((len(inputs), len(pruned.card.labels))) for _ in range(2))
    differences = []
    with scratch() as temporary:
        logits = temporary / "logits.npz"
        code = f"{_READ}{reads}{scores}{_ANSWER}"
        _in_new_process(code, folder, _save_batches(temporary, batches), logits)
        with np.load(logits) as loaded:
            for index, batch in enumerate(batches):
                theirs, ours = loaded[str(index)], pruned.logits(batch, vocabulary=True).detach().cpu().numpy()
                found[batch.rows], expected[batch.rows] = theirs[:, classes], ours[:, classes]
                differences.append(float(np.abs(ours - theirs).max()) / max(1.0, float(np.abs(ours).max())))
    return ReadBack(found, expected, tuple(differences))


# The fresh process ---------------------------------------------------------------------------------------------------

_READ = """
import sys
from pathlib import Path
import numpy
folder, inputs, *rest = map(Path, sys.argv[1:])
with numpy.load(inputs) as file:
    batches = {}
    for key in file.files:
        index, name = key.split(" ")
        batches.setdefault(index, {})[name] = file[key]
"""
_SCORES = """
def scores(batch, logits):
    return logits
"""
_ANSWER = """
numpy.savez(rest[0], **{index: scores(batch, answer(batch)) for index, batch in batches.items()})
"""
#: Reads a file with float32 weights and writes one with 8-bit weights.
_TO_INT8 = """
import sys, warnings
warnings.simplefilter("ignore")
from onnxruntime.quantization import QuantType, quantize_dynamic
# Weights use 7 of the 8 bits: products of 8 bits would overflow on processors without instructions for them.
quantize_dynamic(sys.argv[1], sys.argv[2], weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)
"""


def _save_batches(folder: Path, batches: Sequence[Batch]) -> Path:
    arrays: dict[str, Any] = {
        f"{index} {name}": tensor.cpu().numpy()
        for index, batch in enumerate(batches)
        for name, tensor in batch.tensors.items()
    }
    np.savez(folder / "inputs.npz", **arrays)
    return folder / "inputs.npz"


class _FailedError(CahpError):
    """The code in the fresh process failed, with this ``reason``."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the exported model cannot be read in a fresh process ({reason}), so it was not written")


def _in_new_process(code: str, folder: Path, *paths: Path) -> None:
    # Isolated mode: neither the current folder nor environment variables change what is imported.
    command = [sys.executable, "-I", "-B", "-c", code, str(folder), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    if done.returncode:
        raise _FailedError(_reason(done.stderr))


def _reason(printed: str) -> str:
    """The first line of the error that ended a Python process; some errors print a graph after that line."""
    lines = printed.strip().splitlines() or ["it ended without a message"]
    errors = [
        line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception|Fail|InvalidGraph|NotImplemented)\b", line)
    ]
    return (errors or lines)[-1][:300]
