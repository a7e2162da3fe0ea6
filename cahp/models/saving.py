"""Pruned networks on disk in the shapes that others load, and what such a folder answers in a process of its own.

*Compact* has smaller layers and the one file that loads them, *drop-in* the original's shapes with zeros where heads
were, *ONNX* the compact network for other runtimes. What is exported when, and under which words, is
``cahp.export.formats``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_model

from cahp.files import scratch
from cahp.models import compact
from cahp.models.head_model import Batch, HeadModel
from cahp.models.language import head_of
from cahp.models.sketch import quiet
from cahp.models.surgery import restore_shapes, sizes
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
        _in_new_process(_TO_ONNX, file.parent, _asked(place, batches), file)
    for name in (_WEIGHTS, _LOADER):
        (file.parent / name).unlink()


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
        "head": head_of(card),
        "heads_per_layer": card.heads,
        "kept": mask.by_layer,
        "attributes": attributes,
        "planes": planes,
        "selects": selects,
    }


# Reading it back --------------------------------------------------------------------------------------------------


def read_back(folder: Path, reads: str, pruned: HeadModel, inputs: Sequence[Input]) -> float:
    """The largest difference between the logits of ``pruned`` and of what lies in ``folder``, read in a fresh process.

    Relative to logits beyond 1. ``reads`` is Python that makes a function ``answer`` from the path ``folder``: from a
    batch (arrays by name) to its logits, of which a language model's answers are compared. This package does not exist
    there, as it does not where people load models.

    Raises:
        CahpError: If the folder cannot be read.
    """
    batches = pruned.batches(pruned.tokenize(inputs), size=512)
    with scratch() as place:
        answered = place / "logits.npz"
        scores = _SCORES if pruned.prompt is None else pruned.prompt.reading
        _in_new_process(f"{_READ}{reads}{scores}{_ANSWER}", folder, _asked(place, batches), answered)
        with np.load(answered) as found:
            differences = [0.0]
            for index, batch in enumerate(batches):
                expected = pruned.logits(batch).detach().cpu().numpy()
                scale = max(1.0, float(np.abs(expected).max()))
                differences.append(float(np.abs(expected - found[str(index)]).max()) / scale)
    return float(np.max(differences))


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
_TO_ONNX = f"""{_READ}
import inspect, warnings
import torch
sys.path.insert(0, str(folder))
from load_pruned import load_pruned
# The plain computation of attention is made of operations that every runtime has.
model = load_pruned(folder, attn_implementation="eager")
example = {{name: torch.from_numpy(value) for name, value in batches["0"].items()}}
class Logits(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = model
    def forward(self, *values):
        return self.model(**dict(zip(example, values)), **options).logits
options = {{"use_cache": False}} if "use_cache" in inspect.signature(model.forward).parameters else {{}}
warnings.simplefilter("ignore")
with torch.inference_mode():
    ranks = {{**dict.fromkeys(example, 2), "logits": Logits().eval()(*example.values()).ndim - 1}}
    torch.onnx.export(
        Logits().eval(),
        tuple(example.values()),
        str(rest[0]),
        input_names=list(example),
        output_names=["logits"],
        # The logits of a language model are those of every token.
        dynamic_axes={{name: dict(enumerate(("batch", "length")[:rank])) for name, rank in ranks.items()}},
        opset_version=17,
        dynamo=False,
    )
"""


def _asked(place: Path, batches: Sequence[Batch]) -> Path:
    named: dict[str, Any] = {
        f"{index} {name}": tensor.cpu().numpy()
        for index, batch in enumerate(batches)
        for name, tensor in batch.tensors.items()
    }
    np.savez(place / _INPUTS, **named)
    return place / _INPUTS


def _in_new_process(code: str, folder: Path, *paths: Path) -> None:
    # Isolated: neither the current folder nor variables of the environment decide what is imported.
    command = [sys.executable, "-I", "-B", "-c", code, str(folder), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1][:300]
        raise CahpError(f"the exported model cannot be read in a fresh process ({last}), so it was not written")
