"""Write trained and pruned networks to folders that other programs load, and check these in a fresh process.

A *compact* folder has smaller layers and the file that loads them. A *drop-in* folder has the shapes of the original,
with zeros for pruned heads.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file, save_model

from cahp.files import scratch
from cahp.models import compact, to_onnx
from cahp.models.head_model import Batch, HeadModel
from cahp.models.identity import BUILTINS, output_head
from cahp.models.selftest import relative_difference
from cahp.models.sketch import quiet
from cahp.models.stored import in_float32
from cahp.models.surgery import restore_shapes, separate, sizes
from cahp.models.training import Fitted
from cahp.models.vocabulary import vocabulary_logits
from cahp.models.weights import ADAPTER, ADAPTER_CONFIG, CONFIG, WEIGHTS, state_rotation
from cahp.output import Output
from cahp.tasks.answers import PREDICTION, Window
from cahp.tasks.texts import Item
from cahp.values import CahpError, HeadMask

#: The file that loads a compact model where this package is not installed.
LOADER = "load_pruned.py"


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Save a tokenizer as it was read, without the truncation and padding of the texts that it encoded last."""
    # The tokenizer itself may be in use.
    tokenizer = copy.deepcopy(tokenizer)
    for name, value in getattr(tokenizer, "cahp_original", {}).items():
        setattr(tokenizer, name, value)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
    tokenizer.save_pretrained(folder)


def save_adapter(fitted: Fitted, out: Path | Output) -> Path:
    """Write the adapter in float16, and the class names; return the folder."""
    output = Output.of(out)
    card = fitted.model.card
    # Never a path of this machine.
    base = card.id
    if card.id in BUILTINS and card.source is None:
        base = BUILTINS[card.id].base
    with output.whole() as part, quiet():
        fitted.network.save_pretrained(part)
        weights = part / ADAPTER
        save_file({name: tensor.half() for name, tensor in load_file(weights).items()}, weights)
        config = json.loads((part / ADAPTER_CONFIG).read_text())
        config["base_model_name_or_path"] = base
        # PEFT writes a set here, in another order each time.
        config["target_modules"] = sorted(config["target_modules"])
        (part / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        names = fitted.model.network.config.id2label
        (part / CONFIG).write_text(json.dumps({"id2label": names}, indent=2) + "\n")
        (part / "README.md").unlink(missing_ok=True)
    return output.folder


def save_network(
    network: Any,
    tokenizer: Any,
    out: Path | Output,
    *,
    made: Callable[[Path], Mapping[str, Any]] | None = None,
) -> Path:
    """Write network and tokenizer, as safetensors, whole or not at all; return the folder. See ``Output.whole``."""
    output = Output.of(out)
    with output.whole(made) as part, quiet():
        in_float32(network).save_pretrained(part)
        state_rotation(part)
        save_tokenizer(tokenizer, part)
    return output.folder


def save_compact(folder: Path, pruned: HeadModel, mask: HeadMask) -> None:
    """Save a network that was cut to ``mask``: its configuration, its weights, and the file that loads them.

    Raises:
        CahpError: If the heads of its family can be masked but not cut out.
    """
    family = pruned.family
    card = pruned.card
    if family.no_cut is not None:
        raise CahpError(
            f"heads of {card.id} can be masked but not cut out ({family.no_cut}); export the model as drop-in"
        )
    # See ``cahp.models.compact`` for these entries.
    names = {id(module): name for name, module in pruned.network.named_modules()}
    attributes = dict[str, Any]()
    planes = dict[str, Any]()
    selects = dict[str, Any]()
    empty = dict[str, Any]()
    for layer, (module, kept) in enumerate(zip(pruned.layer_modules, mask.by_layer, strict=True)):
        path = names[id(module.get_submodule(family.attention))]
        channels = pruned.projection(layer).weight.shape[1]
        if family.sizes:
            attributes[path] = sizes(family, units=len(kept), group=card.group, channels=channels)
        if not kept:
            empty[path] = module.get_submodule(family.attention).cahp_empty
            continue
        if family.planes is not None:
            planes[path] = [family.planes, card.heads, kept]
        if family.selects:
            selects[path] = [card.heads, card.group, kept]
    config = _with_layer_counts(pruned, mask).to_diff_dict()
    config["architectures"] = [type(pruned.network).__name__]
    config["cahp"] = {
        "schema": compact.SCHEMA,
        "head": output_head(card),
        "heads_per_layer": card.heads,
        "kept": mask.by_layer,
        "attributes": attributes,
        "planes": planes,
        "selects": selects,
        "empty": empty,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if output_head(card) == "causal":
        pruned.network.generation_config.save_pretrained(folder)
    network = in_float32(pruned.network)
    for parameter in network.parameters():
        # Some libraries keep two projections in one storage, and safetensors cannot save a part of a storage.
        if parameter.untyped_storage().nbytes() > parameter.nbytes:
            parameter.data = parameter.data.clone()
    save_model(network, str(folder / WEIGHTS), metadata={"format": "pt"})
    shutil.copyfile(compact.__file__, folder / LOADER)


def stamp(folder: Path, facts: Mapping[str, str]) -> None:
    """Add ``facts`` to the metadata of each safetensors file in a folder; its tensors stay byte for byte."""
    for path in sorted(folder.glob("*.safetensors")):
        stamped = path.with_name(f"{path.name}.stamped")
        with path.open("rb") as file, stamped.open("wb") as copied:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            header["__metadata__"] = {**header.get("__metadata__", {}), **facts}
            text = json.dumps(header, separators=(",", ":")).encode()
            # Tensors begin at a multiple of eight bytes.
            text += b" " * (-len(text) % 8)
            copied.write(len(text).to_bytes(8, "little") + text)
            shutil.copyfileobj(file, copied, 1 << 20)
        stamped.replace(path)


def _with_layer_counts(pruned: HeadModel, mask: HeadMask) -> Any:
    """Return the configuration with the number of heads of each layer, as transformers 5 states what differs."""
    config = copy.deepcopy(pruned.network.config)
    card = pruned.card
    if pruned.family.shared or not hasattr(config, "num_attention_heads"):
        return config
    grouped = getattr(config, "num_key_value_heads", None) == card.heads
    counts = dict[int, dict[str, int]]()
    for place, kept in zip(card.places or range(card.layers), mask.by_layer, strict=True):
        if len(kept) == card.heads:
            continue
        counts[place] = {"num_attention_heads": len(kept) * card.group}
        if grouped:
            counts[place]["num_key_value_heads"] = len(kept)
    if counts:
        # Some configurations read the number of all layers when they are loaded.
        config.allow_global_per_layer_attribute_access = True
        config.per_layer_config = counts
    return config


def save_drop_in(folder: Path, model: HeadModel, pruned: HeadModel, mask: HeadMask) -> None:
    """Save ``pruned`` (``model`` cut to ``mask``) in the shapes of ``model``, with zeros for pruned heads."""
    with quiet():
        in_float32(restore_shapes(model, pruned, mask)).save_pretrained(folder)
    state_rotation(folder)


@dataclass(frozen=True, eq=False)
class ReadBack:
    """Scores ``(n, C)`` of the same texts: ``found`` by the saved model, ``expected`` by the model in memory.

    Of a language model they are predicted tokens ``(n,)``, of the next token of each text, or of all tokens that are
    measured; ``answers`` are then what an ``Evaluation`` holds of the saved model (None: of classifiers, ``found``).
    """

    found: NDArray[np.float64]
    expected: NDArray[np.float64]
    #: The largest difference of logits in each batch, relative to the batch's largest logit where that is above 1.
    differences: tuple[float, ...]
    answers: NDArray[np.float32] | None = None
    #: The number of tokens that the saved model wrote with its cache, which are among ``differences``.
    written: int | None = None
    #: What ``measure_rounding`` found (0: not measured).
    rounding: float = 0.0
    #: What the form says of what it wrote (None: nothing).
    note: str | None = None

    @property
    def difference(self) -> float:
        """The largest of ``differences``; NaN if a logit is NaN."""
        return float(np.max([0.0, *self.differences]))

    @property
    def agreement(self) -> float:
        """The share of texts, or tokens, with the same prediction."""
        same = self.found == self.expected
        if self.found.ndim > 1:
            same = self.found.argmax(axis=1) == self.expected.argmax(axis=1)
        return float(same.mean())

    @property
    def scores(self) -> NDArray[np.float32]:
        """The scores of an ``Evaluation`` of the saved model."""
        if self.answers is None:
            return self.found.astype(np.float32)
        return self.answers


def read_back(
    folder: Path, reads: str, pruned: HeadModel, inputs: Sequence[Item], *, full: HeadModel | None = None
) -> ReadBack:
    """Load the model in ``folder`` in a fresh process, and compare its logits of ``inputs`` with those of ``pruned``.

    A language model without a prompt is compared by its logits of the next token of each text; with the ``full`` model
    and windows by the measured tokens, and the result has ``answers``.

    The Python code ``reads`` defines a function ``answer`` from the path ``folder``. The function takes a batch (arrays
    by name) and returns the logits, of a language model for every token. It cannot import this package.

    Raises:
        CahpError: If the folder cannot be read.
    """
    if pruned.device.type != "cpu":
        # The fresh process computes on the processor, and another device sums products in another order.
        pruned = pruned.with_network(separate(pruned, trained=False).network.to("cpu"))
        if full is not None:
            full = full.with_network(separate(full, trained=False).network.to("cpu"))
    batches = pruned.batches(pruned.tokenize(inputs), size=512)
    windows = [item for item in inputs if isinstance(item, Window)]
    longest = max((window.scored for window in windows), default=0)
    # The measured tokens of windows, the next token of texts, or classes.
    measures = full is not None and pruned.predicts_tokens and len(windows) == len(inputs)
    shape: tuple[int, ...] = (len(inputs), len(pruned.card.labels))
    if measures:
        shape = (len(inputs), longest)
    elif pruned.predicts_tokens:
        shape = (len(inputs),)
    scores = _SCORES
    # Predictions come from the logits of the classes, differences from those of the whole vocabulary.
    classes: slice | list[int] = slice(None)
    if pruned.prompt is not None:
        scores = pruned.prompt.scores_code
        classes = [answer.token for answer in pruned.prompt.answers]
    elif pruned.predicts_tokens and not measures:
        scores = _NEXT
    found = np.zeros(shape)
    expected = np.zeros(shape)
    answers = np.zeros((len(inputs), longest, 3), dtype=np.float32)
    differences = list[float]()
    with scratch() as temporary:
        logits = temporary / "logits.npz"
        code = f"{_READ}{reads}{scores}{_ANSWER}"
        in_new_process(code, folder, save_batches(temporary, batches), logits)
        # One batch at a time, since logits of a whole vocabulary take much memory.
        with np.load(logits) as loaded, torch.no_grad():
            for index, batch in enumerate(batches):
                theirs = torch.from_numpy(loaded[str(index)])
                if not measures:
                    ours = pruned.logits(batch, vocabulary=True).cpu()
                    differences.append(relative_difference(ours, theirs))
                    if pruned.predicts_tokens:
                        found[batch.rows] = theirs.argmax(-1)
                        expected[batch.rows] = ours.argmax(-1)
                    else:
                        found[batch.rows] = theirs[:, classes].numpy()
                        expected[batch.rows] = ours[:, classes].numpy()
                    continue
                assert full is not None
                full_states = full.logits(batch, states=True)
                states = pruned.logits(batch, states=True)
                for place, row in enumerate(batch.rows.tolist()):
                    count = windows[row].scored
                    length = int(batch.lengths[place])
                    at = slice(length - count, length)
                    # What an ``Evaluation`` holds of logits at tokens, beside those of the full model.
                    wanted = vocabulary_logits(full.network, full_states[place, at]).log_softmax(-1)
                    ours = vocabulary_logits(pruned.network, states[place, at])
                    mine = theirs[place, at].log_softmax(-1)
                    divergences = (wanted.exp() * (wanted - mine)).sum(-1)
                    losses = -mine.gather(1, torch.from_numpy(windows[row].targets)[:, None])[:, 0]
                    read = torch.stack([divergences, losses, mine.argmax(-1).float()], dim=1)
                    answers[row, longest - count :] = read.numpy()
                    expected[row, longest - count :] = ours.argmax(-1)
                    differences.append(relative_difference(ours, theirs[place, at]))
    if not measures:
        return ReadBack(found, expected, tuple(differences))
    counted = np.arange(longest) >= longest - np.array([window.scored for window in windows])[:, None]
    found = answers[..., PREDICTION].astype(np.float64)
    return ReadBack(found[counted], expected[counted], tuple(differences), answers)


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
_NEXT = """
def scores(batch, logits):
    at = batch["attention_mask"].sum(1) - 1
    return logits[range(len(at)), at]
"""
_ANSWER = """
import zipfile
# As numpy.savez does, but one batch at a time.
with zipfile.ZipFile(rest[0], "w") as archive:
    for index, batch in batches.items():
        with archive.open(index + ".npy", "w", force_zip64=True) as file:
            numpy.lib.format.write_array(file, numpy.asarray(scores(batch, answer(batch))))
"""


def save_batches(folder: Path, batches: Sequence[Batch]) -> Path:
    """Save the inputs of a fresh process to a file in ``folder``; return it."""
    arrays: dict[str, Any] = {
        f"{index} {name}": tensor.cpu().numpy()
        for index, batch in enumerate(batches)
        for name, tensor in batch.tensors.items()
    }
    np.savez(folder / "inputs.npz", **arrays)
    return folder / "inputs.npz"


#: Seconds after which a process that reads a model back is ended.
_PATIENCE_S = 1800


def in_new_process(
    code: str,
    folder: Path,
    *paths: Path,
    failure: str = "the exported model cannot be read in a fresh process ({}) and was not written; export another form",
) -> None:
    """Run Python code; if it fails, raise a ``CahpError`` with the sentence ``failure``, with the reason for ``{}``."""
    # Isolated mode: neither the current folder nor environment variables change what is imported.
    command = [sys.executable, "-I", "-B", "-c", code, str(folder), *map(str, paths)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise CahpError(failure.replace("{}", f"it took more than {_PATIENCE_S // 60} minutes")) from None
    if done.returncode:
        raise CahpError(failure.replace("{}", _reason(done.stderr)))


def _reason(printed: str) -> str:
    """The first line of the error that ended a Python process; some errors print a graph after that line."""
    lines = printed.strip().splitlines() or ["it ended without a message"]
    errors = [
        line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception|Fail|InvalidGraph|NotImplemented)\b", line)
    ]
    return (errors or lines)[-1][:300]


#: The number of tokens that a written language model adds to a text.
WRITTEN = 20
_BEGINNING = "Once upon a time"


def save_onnx(file: Path, pruned: HeadModel, mask: HeadMask, inputs: Sequence[Item]) -> None:
    """Save ``pruned`` (cut to ``mask``) as an ONNX file for any batch size and length, with its configuration.

    A fresh process traces the network with ``inputs``. A causal language model takes and returns its cache.

    Raises:
        CahpError: If the network cannot be traced.
    """
    save_compact(file.parent, pruned, mask)
    # Two texts of different length, so that the traced batch contains padding; windows have one length.
    tokens = sorted(pruned.tokenize(inputs), key=lambda entry: len(entry["input_ids"]))
    short = tokens[0]
    long = tokens[-1]
    if len(short["input_ids"]) == len(long["input_ids"]):
        short = {name: values[: max(1, len(values) // 2)] for name, values in short.items()}
    batches = pruned.batches([short, long], size=2 * len(long["input_ids"]))
    source = Path(to_onnx.__file__).read_text(encoding="utf-8")
    with scratch() as temporary:
        in_new_process(
            f"{source}\nmain(cached={pruned.card.cache is not None})\n",
            file.parent,
            save_batches(temporary, batches),
            file,
            failure=f"the ONNX exporter cannot write {pruned.card.id} ({{}}); export it as compact or drop-in",
        )
    for name in (WEIGHTS, LOADER):
        (file.parent / name).unlink()


def save_onnx_int8(file: Path, exact: Path) -> None:
    """Save the ONNX file ``exact`` with 8-bit weights as ``file``, with its configuration.

    Activations are rounded at run time (dynamic quantization).

    Raises:
        CahpError: If it cannot be quantized.
    """
    in_new_process(_TO_INT8, exact, file)
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
        in_new_process(f"{_READ_PROMPT}{reads}{_WRITE.format(count=WRITTEN)}", folder, given, written)
        ids = torch.from_numpy(np.load(written)).to(pruned.device)
    with torch.no_grad():
        logits = pruned.network(input_ids=ids[:, :-1], use_cache=False).logits[0, prompt.shape[1] - 1 :]
    missing = logits.amax(-1) - logits.gather(1, ids[0, prompt.shape[1] :, None])[:, 0]
    difference = float(missing.max()) / max(1.0, float(logits.abs().max()))
    return replace(read, differences=(*read.differences, difference), written=WRITTEN)


# What it runs: it writes text with a cache, or 8-bit weights

_READ_PROMPT = """
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
