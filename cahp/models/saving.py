"""Write trained and pruned networks to folders that other programs load, and check these in a fresh process.

A *compact* folder has smaller layers and the file that loads them. A *standard* folder has fewer heads in every layer,
which its own class loads. A *drop-in* folder has the shapes of the original, with zeros for pruned heads.
"""

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file, save_model
from torch import Tensor
from torch.nn.functional import nll_loss

from cahp.files import scratch
from cahp.models import compact, to_onnx
from cahp.models.cards import DERIVED_SIZE, FAMILIES, Family, ModelCard
from cahp.models.head_model import Batch, HeadModel, Projection, list_layers
from cahp.models.identity import BUILTINS, output_head
from cahp.models.matching import match_folder, quiet, sketch_network
from cahp.models.selftest import relative_difference
from cahp.models.stored import in_float32
from cahp.models.surgery import find_bypass, restore_shapes, separate, sizes
from cahp.models.vocabulary import vocabulary_logits
from cahp.models.weights import ADAPTER, ADAPTER_CONFIG, CONFIG, WEIGHTS, state_rotation
from cahp.output import Output
from cahp.tasks.answers import Window
from cahp.tasks.texts import Item
from cahp.values import CahpError, Floats32, HeadMask, JsonObject, OptionError, Progress, silent

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


def save_adapter(model: HeadModel, out: Path | Output) -> Path:
    """Write the adapter of a classifier in float16, and the class names; return the folder."""
    output = Output.of(out)
    card = model.card
    # Never a path of this machine.
    base = card.id
    if card.id in BUILTINS and card.source is None:
        base = BUILTINS[card.id].base
    with output.whole() as part, quiet():
        model.network.save_pretrained(part)
        weights = part / ADAPTER
        save_file({name: tensor.half() for name, tensor in load_file(weights).items()}, weights)
        config = json.loads((part / ADAPTER_CONFIG).read_text())
        config["base_model_name_or_path"] = base
        # PEFT writes a set here, in another order each time.
        config["target_modules"] = sorted(config["target_modules"])
        (part / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        (part / CONFIG).write_text(json.dumps({"id2label": model.network.config.id2label}, indent=2) + "\n")
        (part / "README.md").unlink(missing_ok=True)
    return output.folder


def save_network(network: Any, tokenizer: Any, out: Path | Output) -> Path:
    """Write network and tokenizer, as safetensors, whole or not at all; return the folder. See ``Output.whole``."""
    output = Output.of(out)
    with output.whole() as part:
        save_plain(part, network)
        save_tokenizer(tokenizer, part)
    return output.folder


def save_plain(folder: Path, network: Any) -> None:
    """Save a network that its own class loads."""
    with quiet():
        in_float32(network).save_pretrained(folder)
    state_rotation(folder)


def save_compact(folder: Path, pruned: HeadModel, mask: HeadMask) -> None:
    """Save a network that was cut to ``mask``: its configuration, its weights, and the file that loads them.

    The heads of its family must have been cut out (``no_cut``).
    """
    family = pruned.family
    card = pruned.card
    # See ``cahp.models.compact`` for these entries; the cut has left them on the attention modules.
    names = {id(module): name for name, module in pruned.network.named_modules()}
    plan: dict[str, JsonObject] = {"attributes": {}, "planes": {}, "selects": {}, "empty": {}, "bypass": {}}
    for layer, (module, kept) in enumerate(zip(pruned.layer_modules, mask.by_layer, strict=True)):
        attention = module.get_submodule(family.attention)
        path = names[id(attention)]
        channels = pruned.projection(layer).weight.shape[1]
        plan["attributes"][path] = sizes(family, units=len(kept), group=card.group, channels=channels)
        for entry in ("planes", "selects", "empty"):
            values = vars(attention).get(f"cahp_{entry}")
            if values is not None:
                plan[entry][path] = [value.tolist() if isinstance(value, Tensor) else value for value in values]
        bypass = find_bypass(pruned, layer)
        if bypass is not None:
            plan["bypass"][path] = [names[id(pruned.projection(layer).module)], bypass.place, bypass.causal]
    config = pruned.network.config.to_diff_dict()
    config["architectures"] = [type(pruned.network).__name__]
    config["cahp"] = {
        "schema": compact.SCHEMA,
        "head": output_head(card),
        "heads_per_layer": card.heads,
        "kept": mask.by_layer,
        **plan,
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
    """Add ``facts`` to the metadata of each safetensors file in a folder; its tensors stay as they are."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        # Its tensors are read from the file while another one is written.
        stamped = path.with_name(f"{path.name}.stamped")
        save_file(load_file(path), stamped, {**metadata, **facts})
        stamped.replace(path)


def save_drop_in(folder: Path, model: HeadModel, pruned: HeadModel, mask: HeadMask) -> None:
    """Save ``pruned`` (``model`` cut to ``mask``) in the shapes of ``model``, with zeros for pruned heads."""
    save_plain(folder, restore_shapes(model, pruned, mask))


# A plain checkpoint of an even mask ----------------------------------------------------------------------------------
#
# It exists where the configuration states the size of a head (Llama, Qwen, Mistral, Gemma, Phi and their kin).
# Elsewhere the size is the width over the number of heads, and fewer heads would be larger ones.


def refuse_standard(card: ModelCard, *, units: int = 1, adder: str = "") -> str | None:
    """Return why a model cannot be a plain checkpoint with ``units`` in every layer, as a clause (None: it can).

    ``adder`` is the noun of a recovery that adds a bias to output projections without one (empty: it adds none). Of a
    model whose files are not located yet nothing is known.
    """
    if not card.folder:
        return None
    network, family = _sketch(card)
    smaller = _with_fewer(network, card, units=units)
    if smaller is None or family.shared:
        return DERIVED_SIZE
    layers = list_layers(smaller, family)
    if Projection(layers[0].get_submodule(family.output)).weight.shape[1] != units * card.head_size:
        return DERIVED_SIZE
    attention = {id(weights) for layer in layers for weights in layer.get_submodule(family.attention).parameters()}
    whole = dict(network.named_parameters())
    for name, weights in smaller.named_parameters():
        if id(weights) not in attention and weights.shape != whole[name].shape:
            return DERIVED_SIZE
    if adder and lacks_output_bias(card):
        smaller = _with_fewer(network, card, units=units, biases=True)
        if smaller is None or not _has_output_bias(smaller, family):
            return f"its class has no bias in the output projection of its attention, and {adder} needs one"
    return None


def lacks_output_bias(card: ModelCard) -> bool:
    """Whether the output projections of a model's attention have no bias; False if its files are not located."""
    return bool(card.folder) and not _has_output_bias(*_sketch(card))


@lru_cache(maxsize=8)
def _sketch(card: ModelCard) -> tuple[Any, Family]:
    """Build a model's network without weights, and describe its heads."""
    weight_bytes = card.details.get("bytes", 0)
    network = sketch_network(card.id, card.folder, card.labels, output_head(card), weight_bytes=weight_bytes)
    return network, FAMILIES.get(card.family) or match_folder(card.id, card.folder, weight_bytes=weight_bytes)[0]


def _has_output_bias(network: Any, family: Family) -> bool:
    return Projection(list_layers(network, family)[0].get_submodule(family.output)).bias is not None


def _with_fewer(network: Any, card: ModelCard, *, units: int, biases: bool = False) -> Any:
    """Build the network without weights, with ``units`` in every layer (None: its class cannot be built so).

    With ``biases``, all projections of attention have a bias.
    """
    config = copy.deepcopy(network.config)
    if getattr(config, "num_key_value_heads", None) == card.heads:
        # One key-value head that all query heads share stays.
        config.num_key_value_heads = units
    config.num_attention_heads = units * card.group
    if not getattr(config, "head_dim", None):
        # Elsewhere it is stated, or means another size (of latent attention, the rotated part of a head).
        config.head_dim = card.head_size // card.group
    if biases:
        config.attention_bias = True
    try:
        # Each class checks its own entries when it is loaded.
        config = type(config).from_dict(config.to_dict())
        with quiet(), torch.device("meta"):
            return type(network)._from_config(config, dtype=torch.float32, attn_implementation="eager")
    except Exception:  # sizes that do not fit each other raise anything
        return None


def save_standard(folder: Path, pruned: HeadModel, mask: HeadMask) -> None:
    """Save a network that was cut to an even ``mask`` as a checkpoint that its own class loads.

    A bias that a recovery added is kept where the class can have one; queries, keys and values then get zeros.

    Raises:
        OptionError: If the class of the network cannot hold these weights.
    """
    network = in_float32(pruned.network)
    weights = network.state_dict()
    for biases in (False, True):
        plain = _with_fewer(network, pruned.card, units=len(mask.by_layer[0]), biases=biases)
        if plain is None:
            continue
        empty = plain.state_dict()
        added = {name: torch.zeros(empty[name].shape) for name in empty.keys() - weights.keys()}
        held = {**weights, **added}
        same = held.keys() == empty.keys() and all(held[name].shape == empty[name].shape for name in held)
        if same and all(name.endswith(".bias") for name in added):
            break
    else:
        raise OptionError(
            f"the class of {pruned.card.id} cannot hold the weights of the pruned model; export it as compact"
        )
    plain.load_state_dict(held, assign=True)
    plain.tie_weights()
    if plain.can_generate():
        plain.generation_config = network.generation_config
    save_plain(folder, plain)


# Reading back --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ReadBack:
    """How a saved model, loaded in a fresh process, differs from the model in memory.

    ``agreement`` is the share of equal predictions among ``tried`` ones, of texts or next ``tokens``. ``difference`` is
    the largest one of logits in a batch, relative to the batch's largest logit where that is above 1, and NaN if a
    logit is. ``scores`` are what an ``Evaluation`` holds of the saved model. ``written`` counts the tokens that it
    wrote with its cache (None: not tried).
    """

    tried: int
    agreement: float
    difference: float
    scores: Floats32
    tokens: bool = False
    written: int | None = None


def read_back(
    folder: Path,
    reads: str,
    pruned: HeadModel,
    inputs: Sequence[Item],
    *,
    full: HeadModel | None = None,
    progress: Progress = silent,
) -> ReadBack:
    """Load the model in ``folder`` in a fresh process, and compare its logits of ``inputs`` with those of ``pruned``.

    Of a language model these are its logits where a text is answered or ends; with the ``full`` model and windows,
    those of all measured tokens.

    The Python code ``reads`` defines a function ``answer`` from the path ``folder``. The function takes a batch (arrays
    by name) and returns the logits, of a language model for every token. It cannot import this package. Where it
    defines ``write``, too, a language model with a cache writes text; see ``compare_writing``.

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
    measures = full is not None and pruned.predicts_tokens and len(windows) == len(inputs)
    # Of each text so many tokens are compared, its last ones.
    counts = [1] * len(inputs)
    scores = np.zeros((len(inputs), len(pruned.card.labels)), dtype=np.float32)
    if measures:
        counts = [window.scored for window in windows]
        # Those of fewer tokens lie at the end.
        scores = np.zeros((len(inputs), max(counts), 3), dtype=np.float32)
    classes: slice | list[int] = slice(None)
    if pruned.prompt is not None:
        # Predictions come from the logits of the classes, differences from those of the whole vocabulary.
        classes = [answer.token for answer in pruned.prompt.answers]
    places = [_places(pruned, batch, counts) for batch in batches]
    differences = [0.0]
    same = list[Tensor]()
    with scratch() as temporary:
        logits = temporary / "logits.npz"
        given = save_batches(temporary, batches, places)
        in_new_process(f"{_READ}{reads}{_ANSWER}", folder, given, logits)
        # One batch at a time, since logits of a whole vocabulary take much memory.
        with np.load(logits) as loaded, torch.no_grad():
            for index, (batch, at) in enumerate(zip(batches, places, strict=True)):
                progress("compare", index, len(batches))
                theirs = torch.from_numpy(loaded[str(index)])
                if pruned.predicts_tokens:
                    ours = vocabulary_logits(pruned.network, pruned.logits(batch, states=True)[at])
                else:
                    ours = pruned.logits(batch, vocabulary=True)
                    scores[batch.rows] = theirs[:, classes].numpy()
                if measures and full is not None and at is not None:
                    wanted = vocabulary_logits(full.network, full.logits(batch, states=True)[at]).log_softmax(-1)
                    mine = theirs.log_softmax(-1)
                    rows = batch.rows[at[0]]
                    ends = at[1] - batch.here.sum(1)[at[0]]
                    targets = torch.tensor([windows[row].targets[end] for row, end in zip(rows, ends, strict=True)])
                    divergences = (wanted.exp() * (wanted - mine)).sum(-1)
                    losses = nll_loss(mine, targets.long(), reduction="none")
                    scores[rows, ends] = torch.stack([divergences, losses, mine.argmax(-1).float()], dim=1).numpy()
                differences.append(relative_difference(ours, theirs))
                same.append(ours[:, classes].argmax(-1) == theirs[:, classes].argmax(-1))
    equal = torch.cat(same)
    written = None
    if full is None and pruned.card.saves == "cache" and "def write(" in reads:
        differences.append(compare_writing(folder, reads, pruned))
        written = WRITTEN
    difference = float(np.max(differences))
    return ReadBack(len(equal), float(equal.double().mean()), difference, scores, pruned.predicts_tokens, written)


def _places(model: HeadModel, batch: Batch, counts: Sequence[int]) -> tuple[Tensor, Tensor] | None:
    """The rows and positions in a batch at which a language model's logits are compared (None: it is a classifier).

    It answers a prompt in one place; otherwise ``counts`` are the numbers of compared tokens of each text.
    """
    if model.prompt is not None:
        return torch.arange(len(batch)), model.prompt.positions(batch.tensors)
    if not model.predicts_tokens:
        return None
    rows, positions = batch.mark_last([counts[row] for row in batch.rows]).nonzero(as_tuple=True)
    return rows, positions


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
_ANSWER = """
import zipfile
# As numpy.savez does, but one batch at a time.
with zipfile.ZipFile(rest[0], "w") as archive:
    for index, batch in batches.items():
        at = batch.pop("cahp_places", None)
        logits = answer(batch)
        if at is not None:
            logits = logits[at[0], at[1]]
        with archive.open(index + ".npy", "w", force_zip64=True) as file:
            numpy.lib.format.write_array(file, numpy.asarray(logits))
"""


def save_batches(folder: Path, batches: Sequence[Batch], places: Sequence[tuple[Tensor, Tensor] | None] = ()) -> Path:
    """Save the inputs of a fresh process, and the ``places`` of its outputs, to a file in ``folder``; return it."""
    arrays: JsonObject = {
        f"{index} {name}": tensor.cpu().numpy()
        for index, batch in enumerate(batches)
        for name, tensor in batch.tensors.items()
    }
    for index, at in enumerate(places):
        if at is not None:
            arrays[f"{index} cahp_places"] = torch.stack(at).numpy()
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
        lines = done.stderr.strip().splitlines() or ["it ended without a message"]
        raise CahpError(failure.replace("{}", lines[-1][:300]))


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


def compare_writing(folder: Path, reads: str, pruned: HeadModel) -> float:
    """Let the model in ``folder`` write ``WRITTEN`` tokens in a fresh process; return how far they are off ``pruned``.

    The Python code ``reads`` defines ``write`` from the path ``folder``: it takes tokens ``(1, n)``, their mask and a
    number, and returns the tokens with so many more, each the most likely one by the model's cache. The difference is
    the largest one between the best logit in memory and that of the written token, relative to logits beyond 1.

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
    return float(missing.max()) / max(1.0, float(logits.abs().max()))


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
