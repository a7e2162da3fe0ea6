"""Pruned networks on disk in the shapes that others load, and what such a folder answers in a process of its own.

*Compact* has smaller layers and the one file that loads them, *drop-in* the original's shapes with zeros where heads
were, *ONNX* the compact network for other runtimes, in float32 or with weights of 8 bits. What is exported when, and
under which words, is ``cahp.exports.formats``.
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
from cahp.models.head_model import Batch, HeadModel
from cahp.models.language import output_head
from cahp.models.sketch import quiet
from cahp.models.surgery import restore_shapes, separate, sizes
from cahp.values import CahpError, HeadMask, Input

_WEIGHTS = "model.safetensors"
#: The file that loads a compact model where this package is not installed.
_LOADER = "load_pruned.py"
_INPUTS = "inputs.npz"


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write a tokenizer without what its last texts left in it: how long they were cut, and how they were padded."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
    tokenizer.save_pretrained(folder)


def save_compact(folder: Path, pruned: HeadModel, mask: HeadMask) -> None:
    """Write a network that was cut to ``mask``: configuration, weights, and the file that loads them.

    Raises:
        CahpError: If its heads were not cut out, since its family's cannot be.
    """
    if pruned.family.no_cut is not None:
        raise CahpError(
            f"heads of {pruned.card.id} can be masked and not cut out ({pruned.family.no_cut}); export it as drop-in"
        )
    config = pruned.network.config.to_diff_dict()
    config["architectures"] = [type(pruned.network).__name__]
    config["cahp"] = _plan(pruned, mask)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if pruned.card.language == "causal" and pruned.prompt is not None:
        pruned.network.generation_config.save_pretrained(folder)
    for parameter in pruned.network.parameters():
        # Some libraries read two projections from one matrix, and a part of a storage cannot be saved alone.
        if parameter.untyped_storage().nbytes() > parameter.nbytes:
            parameter.data = parameter.data.clone()
    save_model(pruned.network, str(folder / _WEIGHTS), metadata={"format": "pt"})
    source = Path(compact.__file__).read_text(encoding="utf-8")
    (folder / _LOADER).write_text(source, encoding="utf-8")


def save_drop_in(folder: Path, model: HeadModel, pruned: HeadModel, mask: HeadMask) -> None:
    """Write ``pruned`` (``model`` cut to ``mask``) in the shapes of ``model``, with zeros for the heads that went."""
    with quiet():
        restore_shapes(model, pruned, mask).save_pretrained(folder)


def save_onnx(file: Path, pruned: HeadModel, mask: HeadMask, inputs: Sequence[Input]) -> None:
    """Write ``pruned`` (cut to ``mask``) as an ONNX file for any batch and length; its configuration lies beside it.

    ``inputs`` are what it is traced with, in a fresh process.

    Raises:
        CahpError: If it cannot be traced.
    """
    save_compact(file.parent, pruned, mask)
    # Two texts of unlike length, so that the traced batch has padding in it.
    tokens = sorted(pruned.tokenize(inputs), key=lambda entry: len(entry["input_ids"]))
    batches = pruned.batches([tokens[0], tokens[-1]], size=2 * len(tokens[-1]["input_ids"]))
    with scratch() as place:
        source = Path(to_onnx.__file__).read_text(encoding="utf-8")
        try:
            _in_new_process(f"{source}\nmain()\n", file.parent, _asked(place, batches), file)
        except _FailedError as error:
            raise CahpError(
                f"the exporter to ONNX cannot write {pruned.card.id} ({error.reason}); export it as compact or drop-in"
            ) from error
    for name in (_WEIGHTS, _LOADER):
        (file.parent / name).unlink()


def save_onnx_int8(file: Path, exact: Path) -> None:
    """Write what ``save_onnx`` wrote as ``exact`` with weights of 8 bits; its configuration lies beside it, too.

    Activations are rounded while it runs (dynamic quantisation).

    Raises:
        CahpError: If it cannot be rounded.
    """
    _in_new_process(_TO_INT8, exact, file)
    for path in exact.parent.glob("*config.json"):
        shutil.copyfile(path, file.parent / path.name)


def _plan(pruned: HeadModel, mask: HeadMask) -> dict[str, Any]:
    """What a loader must know besides the weights; see ``cahp.models.compact``."""
    names = {id(module): name for name, module in pruned.network.named_modules()}
    family, card = pruned.family, pruned.card
    attributes: dict[str, Any] = {}
    planes: dict[str, Any] = {}
    selects: dict[str, Any] = {}
    for layer, (module, kept) in enumerate(zip(pruned.layer_modules, mask.by_layer, strict=True)):
        path = names[id(module.get_submodule(family.attention))]
        channels = pruned.projection(layer).weight.shape[1]
        found = sizes(family, units=len(kept), group=card.group, channels=channels)
        if found:
            attributes[path] = found
        if family.planes is not None:
            planes[path] = [family.planes, card.heads, kept]
        if family.selects:
            selects[path] = [card.heads, card.group, kept]
    return {
        "schema": compact.SCHEMA,
        "head": output_head(card),
        "heads_per_layer": card.heads,
        "kept": mask.by_layer,
        "attributes": attributes,
        "planes": planes,
        "selects": selects,
    }


# Reading it back --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ReadBack:
    """Scores ``(n, C)`` of the same texts: ``found`` by what was read in a fresh process, ``expected`` in memory."""

    found: NDArray[np.float64]
    expected: NDArray[np.float64]
    #: Batch by batch: the largest difference of logits, relative to the batch's largest logit where that is beyond 1.
    differences: tuple[float, ...]

    @property
    def difference(self) -> float:
        """The largest of ``differences``; not a number if a logit is none."""
        return float(np.max([0.0, *self.differences]))

    @property
    def agreement(self) -> float:
        """The share of texts that get the same answer."""
        return float((self.found.argmax(axis=1) == self.expected.argmax(axis=1)).mean())


def read_back(folder: Path, reads: str, pruned: HeadModel, inputs: Sequence[Input]) -> ReadBack:
    """What lies in ``folder``, read in a fresh process, answers to ``inputs``, beside the answers of ``pruned``.

    ``reads`` is Python that makes a function ``answer`` from the path ``folder``: from a batch (arrays by name) to its
    logits, a language model's for every token. This package does not exist there, as it does not where
    people load models.

    Raises:
        CahpError: If the folder cannot be read.
    """
    if pruned.device.type != "cpu":
        # That is where the fresh process runs, and another device sums products in another order.
        pruned = pruned.around(separate(pruned).network.to("cpu"))
    batches = pruned.batches(pruned.tokenize(inputs), size=512)
    with scratch() as place:
        answered = place / "logits.npz"
        scores = _SCORES if pruned.prompt is None else pruned.prompt.scores_code
        _in_new_process(f"{_READ}{reads}{scores}{_ANSWER}", folder, _asked(place, batches), answered)
        with np.load(answered) as read:
            pairs = [
                (batch.rows, read[str(index)], pruned.logits(batch, vocabulary=True).detach().cpu().numpy())
                for index, batch in enumerate(batches)
            ]
    # Answers are compared, and how far apart numbers may be follows from all that the network says.
    classes = slice(None) if pruned.prompt is None else [answer.token for answer in pruned.prompt.answers]
    found, expected = (np.zeros((len(inputs), len(pruned.card.labels))) for _ in range(2))
    differences = []
    for rows, got, wanted in pairs:
        found[rows], expected[rows] = got[:, classes], wanted[:, classes]
        differences.append(float(np.abs(wanted - got).max()) / max(1.0, float(np.abs(wanted).max())))
    return ReadBack(found, expected, tuple(differences))


_READ = """
import sys
from pathlib import Path
import numpy
folder, asked, *rest = map(Path, sys.argv[1:])
with numpy.load(asked) as file:
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
#: From a file with float32 weights to one with weights of 8 bits.
_TO_INT8 = """
import sys, warnings
warnings.simplefilter("ignore")
from onnxruntime.quantization import QuantType, quantize_dynamic
# Of 7 bits in 8: on processors without instructions for sums of such products, those of 8 bits would overflow.
quantize_dynamic(sys.argv[1], sys.argv[2], weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)
"""


def _asked(place: Path, batches: Sequence[Batch]) -> Path:
    named: dict[str, Any] = {
        f"{index} {name}": tensor.cpu().numpy()
        for index, batch in enumerate(batches)
        for name, tensor in batch.tensors.items()
    }
    np.savez(place / _INPUTS, **named)
    return place / _INPUTS


class _FailedError(CahpError):
    """What ran in a fresh process failed, for this reason."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the exported model cannot be read in a fresh process ({reason}), so it was not written")


def _in_new_process(code: str, folder: Path, *paths: Path) -> None:
    # Isolated: neither the current folder nor variables of the environment decide what is imported.
    command = [sys.executable, "-I", "-B", "-c", code, str(folder), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    if done.returncode:
        raise _FailedError(_reason(done.stderr))


def _reason(printed: str) -> str:
    """The error that a process of Python ended with, as its first line says it; some print a graph after that."""
    lines = printed.strip().splitlines() or ["it ended without a word"]
    errors = [
        line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception|Fail|InvalidGraph|NotImplemented)\b", line)
    ]
    return (errors or lines)[-1][:300]
