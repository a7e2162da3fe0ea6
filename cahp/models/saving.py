"""Pruned models as folders that load elsewhere, each tried in a process of its own before anybody gets it.

Three forms: *compact* (smaller layers, loaded by the one file that lies in the folder), *drop-in* (the shapes of the
original with zeros where heads were, loaded by transformers alone) and *ONNX* (of the compact model, for onnxruntime).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.torch import save_model

from cahp.files import whole_folder
from cahp.models import compact
from cahp.models.head_model import Batch, HeadModel
from cahp.models.loading import quiet
from cahp.models.surgery import restore_shapes, sizes
from cahp.values import CahpError, HeadMask, Input

Form = Literal["compact", "drop-in", "onnx"]
FORMS: tuple[Form, ...] = ("compact", "drop-in", "onnx")
#: The file that loads a compact model where this package is not installed.
LOADER = "load_pruned.py"
ONNX_FILE = "model.onnx"
#: How far the logits of what was written may stray from those in memory, relative to logits beyond 1.
TOLERANCE: Mapping[Form, float] = {"compact": 1e-5, "drop-in": 1e-5, "onnx": 1e-4}
_INPUTS = "inputs.npz"


def write(
    form: Form,
    folder: Path,
    *,
    model: HeadModel,
    pruned: HeadModel,
    mask: HeadMask,
    inputs: Sequence[Input],
    files: Mapping[str, str] | None = None,
) -> float:
    """Write ``pruned`` (``model`` cut to ``mask``, recovered or not) as a new folder, whole or not at all.

    What was written is read back in a fresh process and answers ``inputs``; returned is the largest difference of
    logits. ``files`` are texts to lie beside it, by name.

    Raises:
        CahpError: If what is read back answers otherwise, or cannot be read.
    """
    with whole_folder(folder) as part:
        for name, text in (files or {}).items():
            (part / name).write_text(text, encoding="utf-8")
        pruned.tokenizer.save_pretrained(part)
        if form == "drop-in":
            with quiet():
                restore_shapes(model, pruned, mask).save_pretrained(part)
        else:
            _write_compact(part, pruned, mask)
        if form == "onnx":
            _to_onnx(part, pruned, inputs)
        difference = tried(form, part, pruned, inputs)
        if form == "onnx":
            for name in ("model.safetensors", LOADER):
                (part / name).unlink()
        for path in part.iterdir():
            # Weights are written for their owner alone; the folder is as open as its README.
            path.chmod((part / "config.json").stat().st_mode)
        return difference


def _write_compact(folder: Path, pruned: HeadModel, mask: HeadMask) -> None:
    config = pruned.network.config.to_diff_dict()
    config["architectures"] = [type(pruned.network).__name__]
    config["cahp"] = _plan(pruned, mask)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_model(pruned.network, str(folder / "model.safetensors"), metadata={"format": "pt"})
    source = Path(compact.__file__).read_text(encoding="utf-8")
    (folder / LOADER).write_text(source, encoding="utf-8")


def _plan(pruned: HeadModel, mask: HeadMask) -> dict[str, Any]:
    """What a loader must know besides the weights; see ``cahp.models.compact``."""
    names = {id(module): name for name, module in pruned.network.named_modules()}
    family, card = pruned.family, pruned.card
    attributes, position_bias = {}, {}
    for layer, (module, kept) in enumerate(zip(pruned.layer_modules, mask.by_layer, strict=True)):
        path = names[id(module.get_submodule(family.attention))]
        channels = pruned.projection(layer).weight.shape[1]
        found = sizes(family, heads=len(kept) * card.group, channels=channels)
        if found:
            attributes[path] = found
        if family.position_bias:
            position_bias[path] = kept
    return {
        "schema": compact.SCHEMA,
        "heads_per_layer": card.heads,
        "kept": mask.by_layer,
        "attributes": attributes,
        "position_bias": position_bias,
    }


# Trying what was written ------------------------------------------------------------------------------------------


def tried(form: Form, folder: Path, pruned: HeadModel, inputs: Sequence[Input]) -> float:
    """The largest difference between the logits of ``pruned`` and of the folder, read in a fresh process.

    Relative to logits beyond 1.

    Raises:
        CahpError: If it is more than ``TOLERANCE``, or the folder cannot be read.
    """
    batches = pruned.batches(pruned.tokenize(inputs), size=512)
    with tempfile.TemporaryDirectory(prefix="cahp-") as place:
        answered = Path(place) / "logits.npz"
        _in_new_process(_ANSWERS[form], folder, _asked(Path(place), batches), answered)
        with np.load(answered) as found:
            differences = [0.0]
            for index, batch in enumerate(batches):
                expected = pruned.logits(batch).detach().cpu().numpy()
                scale = max(1.0, float(np.abs(expected).max()))
                differences.append(float(np.abs(expected - found[str(index)]).max()) / scale)
    worst = float(np.max(differences))
    # Not `worst > limit`: what is not a number must fail too.
    if not worst <= TOLERANCE[form]:
        raise CahpError(
            f"the {form} model, read again, answers otherwise than the one in memory (by {worst:.1e}), so it was not "
            "written; export the mask instead, and tell us which model this is"
        )
    return worst


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
_TORCH = """
import torch
with torch.inference_mode():
    logits = {
        index: model(**{name: torch.from_numpy(value) for name, value in batch.items()}).logits.numpy()
        for index, batch in batches.items()
    }
numpy.savez(rest[0], **logits)
"""
#: What reads each form back: never this package, since it is not there where people load their models.
_ANSWERS: Mapping[Form, str] = {
    "compact": f"{_READ}\nsys.path.insert(0, str(folder))\nfrom load_pruned import load_pruned\n"
    f"model = load_pruned(folder)\n{_TORCH}",
    "drop-in": f"{_READ}\nfrom transformers import AutoModelForSequenceClassification\n"
    f"model = AutoModelForSequenceClassification.from_pretrained(folder).eval()\n{_TORCH}",
    "onnx": f"""{_READ}
import onnxruntime
session = onnxruntime.InferenceSession(str(folder / "{ONNX_FILE}"), providers=["CPUExecutionProvider"])
wanted = [entry.name for entry in session.get_inputs()]
logits = {{
    index: session.run(["logits"], {{name: batch[name] for name in wanted}})[0] for index, batch in batches.items()
}}
numpy.savez(rest[0], **logits)
""",
}
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
    torch.onnx.export(
        Logits().eval(),
        tuple(example.values()),
        str(folder / "{ONNX_FILE}"),
        input_names=list(example),
        output_names=["logits"],
        dynamic_axes={{**{{name: {{0: "batch", 1: "length"}} for name in example}}, "logits": {{0: "batch"}}}},
        opset_version=17,
        dynamo=False,
    )
"""


def _to_onnx(folder: Path, pruned: HeadModel, inputs: Sequence[Input]) -> None:
    # Two texts of unlike length, so that the traced batch has padding in it.
    tokens = sorted(pruned.tokenize(inputs), key=lambda entry: len(entry["input_ids"]))
    batches = pruned.batches([tokens[0], tokens[-1]], size=2 * len(tokens[-1]["input_ids"]))
    with tempfile.TemporaryDirectory(prefix="cahp-") as place:
        _in_new_process(_TO_ONNX, folder, _asked(Path(place), batches))


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
