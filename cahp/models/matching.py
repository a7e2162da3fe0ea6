"""Networks without weights: whether weights fit a configuration, what a pass computes, and where its heads are.

A model type is matched by the structure of its attention, not by its name.

The network is built without weights (on the ``meta`` device), and its attention modules are compared with the table
``SHAPES``: a module must have these names and consistent sizes. The loaded model proves the result
(``cahp.models.selftest``).
"""

import inspect
import itertools
import logging
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock, RLock, local
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from transformers import AutoConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
from transformers.utils import logging as transformers_logging

from cahp.files import read_beside
from cahp.models.caching import describe_cache
from cahp.models.cards import Family, ModelCard, Rows, Size
from cahp.models.compact import HEADS
from cahp.models.head_model import Projection, find_module, is_linear
from cahp.models.identity import language_of
from cahp.models.weights import CONFIG, Shape, count_weights, read_json
from cahp.tasks.task import Head
from cahp.values import Fields, JsonObject, ModelError, Names
from cahp.words import first_line

#: To be held while transformers or PEFT loads a network: they replace functions of PyTorch and of the classes of models
#: for that time, and put back what they found.
LOADING = RLock()
#: All threads have the same loggers and filters: the first block silences them, and the last one restores them.
_changing = Lock()
_blocks = 0
_restoring = ExitStack()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the libraries' progress bars, reports and deprecations inside the block, in all threads."""
    global _blocks
    with _changing:
        if _blocks == 0:
            _restoring.enter_context(_silence())
        _blocks += 1
    try:
        yield
    finally:
        with _changing:
            _blocks -= 1
            if _blocks == 0:
                _restoring.close()


@contextmanager
def _silence() -> Iterator[None]:
    verbosity = transformers_logging.get_verbosity()
    drawn = transformers_logging.is_progress_bar_enabled()
    # It warns of weights that stay on the disk.
    placing = logging.getLogger("accelerate.big_modeling")
    level = placing.level
    placing.setLevel(logging.ERROR)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        placing.setLevel(level)
        if drawn:
            transformers_logging.enable_progress_bar()


#: Weights that may be missing from the files (so that an error can name them), and bytes of tables (of positions,
#: masks) that are no weights.
_SLACK = 4_000_000
_SLACK_BYTES = 32 << 20
#: Number of modules and parameters that any network may have, and how many more for each byte of its weights: without
#: numbers they cost nothing but the time to make them.
_PARTS = 5_000
_PARTS_PER_BYTE = 1 / 250


class _TooManyParts(Exception):
    """A sketch has more modules and parameters than its files can hold weights for."""


#: The count of parts of the sketch that a thread makes, and the ``most`` of them; PyTorch calls hooks in all threads.
_sketching = local()


def _count_part(*_: object) -> None:
    parts = getattr(_sketching, "parts", None)
    if parts is not None and next(parts) >= _sketching.most:
        raise _TooManyParts


# For good: PyTorch goes through its hooks while another thread would remove one.
register_module_module_registration_hook(_count_part)
register_module_parameter_registration_hook(_count_part)


def sketch_network(name: str, folder: str, names: Names, head: Head, *, weight_bytes: int) -> Any:
    """Build the network of the configuration in ``folder`` without weights.

    Its head is for the classes ``names``, if any are known. The bytes of the model's files, ``weight_bytes``, limit the
    time that it takes.

    Raises:
        ModelError: If the configuration describes no network, or one with far more modules than the files can hold.
    """
    _sketching.most = _PARTS + int(weight_bytes * _PARTS_PER_BYTE)
    _sketching.parts = itertools.count()
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            if names and head == "classification":
                config.num_labels = len(names)
            # The type of the configuration would become PyTorch's default in all threads.
            with torch.device("meta"):
                return HEADS[head].from_config(config, dtype=torch.float32, trust_remote_code=False)
    except _TooManyParts:
        raise ModelError(
            f"the config.json of {name} asks for far more modules than its {weight_bytes:,} bytes of weights can hold: "
            "they do not belong together; save the whole model again"
        ) from None
    except Exception as error:  # a damaged configuration raises anything
        raise ModelError(f"{name} cannot be read ({first_line(error)}); save or download the model again") from None
    finally:
        _sketching.parts = None


def check_fit(card: ModelCard, stored: Mapping[str, Shape], *, own_head: bool, head: Head) -> int:
    """Compare the weights of a configuration with those that are ``stored``, before memory is taken for them.

    Missing weights are drawn at random before they can be refused, and a width or a vocabulary may be any number.
    The head must be stored if it is the model's ``own_head``; a pruned model lacks most heads. Returns the size of the
    network's largest weight.

    Raises:
        ModelError: If the shapes of weights differ, or the configuration has far more weights than the files.
    """
    count = count_weights(stored)
    sketch = sketch_network(card.id, card.folder, card.labels, head, weight_bytes=4 * count)
    prefix = f"{sketch.base_model_prefix}."
    wanted = {name: tuple(weight.shape) for name, weight in sketch.named_parameters()}
    # The weights of a plain encoder are stored without the prefix.
    lost = [
        weight
        for weight, shape in wanted.items()
        if (stored.get(weight) or stored.get(weight.removeprefix(prefix))) not in (None, shape)
        and (own_head or weight.startswith(prefix))
    ]
    if lost and card.kept is None:
        raise ModelError(lost_weights(card.id, lost, "have other shapes than its config.json says"))
    claimed = sum(math.prod(shape) for weight, shape in wanted.items() if weight.startswith(prefix))
    outside = count_weights(wanted) - claimed
    buffers = sum(buffer.nbytes for buffer in sketch.buffers())
    times = 1
    if card.kept is not None:
        # A pruned model lacks most of its heads, and no other weights.
        times = 4
    if claimed > times * count + _SLACK or outside > claimed + _SLACK or buffers > 4 * (4 * count) + _SLACK_BYTES:
        raise ModelError(
            f"the config.json of {card.id} asks for {claimed + outside:,} weights and its files hold {count:,}: they "
            "do not belong together; save the whole model again"
        )
    return max(map(math.prod, wanted.values()))


def lost_weights(name: str, weights: list[str], problem: str) -> str:
    """The error message about some weights, with the names of the first three."""
    first = ", ".join(weights[:3])
    if len(weights) > 3:
        first += f" and {len(weights) - 3} more"
    return f"the weights {first} of {name} {problem}; save the whole model again"


# The structure of attention -------------------------------------------------------------------------------------------


class AttentionForm(NamedTuple):
    """One way to write attention.

    ``query``, ``key`` and ``value`` are the names of projections whose output channels belong to heads; a fused
    projection is named for each. Its channels are in the ``order``: all queries, then all keys, then all values
    (``stacked``; keys and values may have fewer heads), or head by head, each with all three (``by head``). ``words``
    describe the shape.
    """

    words: str
    query: str
    key: str
    value: str
    order: Literal["stacked", "by head"] | None = None

    @property
    def names(self) -> Names:
        """The projections, each once."""
        return tuple(dict.fromkeys((self.query, self.key, self.value)))


#: The names by which parts of attention are found.
_NAMES = read_beside(__file__)
SHAPES = [AttentionForm(**form) for form in _NAMES["shapes"]]
#: Number of query heads that share a key-value head: it changes if all heads share one.
_SHARING = "num_key_value_groups"
#: Parts of a network whose heads are not used: for other inputs than text, for decoding, or without attention weights.
_ELSEWHERE = re.compile("mamba|linear_attn|vision|visual|encoder_attn|cross_attn|crossattention|EncDecAttention")
#: Attributes of mixers that have projections like attention, and carry a state from token to token instead.
_RECURRENT = ("A_log", "igate_preact")
#: Attributes of attention modules and layers that are false in encoders.
_DECODES = ("is_causal", "is_decoder")


def match_folder(name: str, folder: str, *, weight_bytes: int) -> tuple[Family, JsonObject]:
    """Find the heads of the model ``name`` in ``folder``, with so many bytes of weights, from its configuration.

    Returns the family, and the entries of the model's card that describe its heads.

    Raises:
        ModelError: If no shape fits, with the reason; or if transformers has no text classifier of that architecture.
    """
    config = read_json(Path(folder) / CONFIG)
    kind = str(config.get("model_type", ""))[:60]
    head = choose_sketch_head(config)
    known = kind in CONFIG_MAPPING_NAMES
    if head is None or not known:
        remark = ", and whose own code is not run"
        if known:
            remark = " and no language model"
        raise ModelError(
            f"{name} is of the architecture {kind or 'unknown'}, of which transformers has no text classifier{remark}; "
            "name a model whose head is a ForSequenceClassification, ForCausalLM or ForMaskedLM"
        )
    network = sketch_network(name, folder, (), head, weight_bytes=weight_bytes)
    try:
        return match_network(name, network, causal=language_of(config) == "causal")
    except ModelError:
        raise
    except Exception as error:  # an unknown network raises anything
        raise ModelError(
            f"{name} is of the architecture {kind}, whose attention is not supported "
            f"({type(error).__name__}: {str(error)[:100]}); name another model"
        ) from None


def choose_sketch_head(config: Fields) -> Head | None:
    """Choose the head to sketch a network with: a classifier's where transformers has a classifier of its type."""
    if str(config.get("model_type")) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        return "classification"
    return language_of(config)


class _Candidate(NamedTuple):
    """Attention modules of one path, in a list of layers: ``layers``.PLACE.``attention``."""

    shape: AttentionForm
    layers: str
    attention: str
    output: str


def match_network(name: str, network: Any, *, causal: bool) -> tuple[Family, JsonObject]:
    """Find the heads of a network, with or without weights; see ``match_folder``.

    Raises:
        ModelError: If no shape fits, with the reason.
    """
    base: nn.Module = network.base_model
    config: Any = base.config
    candidate, places = _find_layers(name, network)
    shape = candidate.shape
    listed = base.get_submodule(candidate.layers)
    assert isinstance(listed, nn.ModuleList)
    layers = [listed[place] for place in places]
    modules = [layer.get_submodule(candidate.attention) for layer in layers]
    outputs = [layer.get_submodule(candidate.output) for layer in layers]
    attention = modules[0]
    widths = {tuple(Projection(output).weight.shape) for output in outputs}
    hidden, channels = min(widths)
    queries = _count(attention, _NAMES["heads"]) or int(
        getattr(config.get_text_config(), "num_attention_heads", 0) or 0
    )
    if len(widths) > 1 or not queries or channels % queries:
        raise ModelError(
            f"{name} has {channels} channels of attention output and {queries or 'an unknown number of'} heads in some "
            "layers, which do not fit each other or other layers; name another model"
        )
    # The number of key-value heads.
    size = channels // queries
    groups = queries
    rows = _rows(attention, shape.query)
    if shape.order is None:
        if shape.key != shape.value:
            groups = max(1, _rows(attention, shape.value) // size)
    elif rows != 3 * channels:
        # All queries, and keys and values of fewer heads.
        groups = _count(attention, _NAMES["groups"]) or (rows - channels) // (2 * size)
    # Units are cut; where all heads share one key-value head, the query heads are the units, and keys and values stay.
    multi_query = groups == 1 < queries
    units = groups
    if multi_query:
        units = queries
    # The projections that are cut, with the order of their channels.
    cut = {part: Rows() for part in shape.names}
    if multi_query:
        shared = 0
        if shape.order is not None:
            shared = 2
        cut = {shape.query: Rows(shared=shared)}
    elif shape.order == "stacked" and rows != 3 * channels:
        cut = {shape.query: Rows((queries // units, 1, 1))}
    elif shape.order == "stacked" and getattr(attention, "multi_query", None) is None:
        cut = {shape.query: Rows((1, 1, 1))}
    interface = _reads_interface(attention)
    # A normalisation over all heads needs all of them: queries and keys are selected after they were computed.
    normed_together = False
    for norm, part in (("q_norm", shape.query), ("k_norm", shape.key)):
        weight = getattr(getattr(attention, norm, None), "weight", None)
        if interface and weight is not None:
            rows = _rows(attention, part)
            normed_together |= weight.numel() == rows != rows // units
    prefix = ""
    if candidate.attention:
        prefix = f"{candidate.attention}."
    inputs = dict[str, Rows]()
    uncut = dict[str, Rows]()
    for part, order in cut.items():
        if normed_together and part in (shape.query, shape.key):
            uncut[f"{prefix}{part}"] = order
        else:
            inputs[f"{prefix}{part}"] = order
    # The second and the first projection of the feed-forward blocks (None: not known).
    feed_out = None
    feed_in = None
    for second, *before in _NAMES["feeds"]:
        if all(is_linear(find_module(layer, second)) for layer in layers):
            feed_out = second
            if before and all(find_module(layer, before[0]) for layer in layers):
                feed_in = before[0]
            break
    planes = next((part for part in _NAMES["planes"] if part in inspect.signature(attention.forward).parameters), None)
    selects = normed_together or hasattr(attention, "relative_attention_bias")
    weights = None
    if interface:
        selects = selects or planes is not None
        planes = None
    else:
        weights = next(
            (part for part in _NAMES["dropouts"] if isinstance(getattr(attention, part, None), nn.Dropout)), None
        )
    # The attributes that change when heads are cut.
    own = {part: value for part, value in vars(attention).items() if type(value) is int}
    sizes: dict[str, Size] = {part: "heads" for part in _NAMES["heads"] if own.get(part) == queries}
    if not multi_query:
        sizes |= {part: "units" for part in _NAMES["groups"] if own.get(part) == units}
    elif own.get(_SHARING) == queries:
        sizes[_SHARING] = "heads"
    sizes |= {part: "channels" for part in _NAMES["channels"] if own.get(part) == channels}
    entry = "num_attention_heads"
    if hasattr(attention, "config") and entry not in own and {"config", entry} <= names_in_forward(attention):
        sizes[f"config.{entry}"] = "heads"
    # Heads cannot be cut out where the part of each head in a parameter of their module is not known.
    no_cut = None
    names = {*shape.names, *_NAMES["outputs"], *_NAMES["beside"], *_NAMES["shared"]}
    for path, parameter in attention.named_parameters():
        owner = path.rpartition(".")[0]
        known = path.partition(".")[0] in names or path in _NAMES["vectors"]
        if not known and no_cut is None and (parameter.ndim > 1 or not owner or "norms" in owner):
            no_cut = f"its attention has {path}, whose part in each head is not known"
    # Positions may be counted from the padding token's on.
    offsets = (
        path.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None
        for path, module in base.named_modules()
    )
    longest = None
    if getattr(config, "attention_type", None) == "block_sparse":
        # Sparse attention (BigBird's) attends to short texts as a whole too.
        longest = (5 + 2 * config.num_random_blocks) * config.block_size
    settings = JsonObject()
    if hasattr(config, "attention_type"):
        settings["attention_type"] = "original_full"
    family = Family(
        layers=candidate.layers,
        attention=candidate.attention,
        inputs=inputs,
        uncut=uncut,
        extra_inputs=tuple(f"{prefix}{part}" for part in _NAMES["beside"] if is_linear(getattr(attention, part, None))),
        vectors=tuple(
            f"{prefix}{part}" for part in _NAMES["vectors"] if isinstance(getattr(attention, part, None), nn.Parameter)
        ),
        output=candidate.output,
        feed_out=feed_out,
        feed_in=feed_in,
        residual="pre",
        interface=interface,
        weights=weights,
        sizes=sizes,
        planes=planes,
        selects=selects,
        matched=shape.words,
        own_arguments=True,
        causal=bool(getattr(attention, "is_causal", False)),
        caches=hasattr(config, "use_cache"),
        offset_positions=any(offsets),
        longest=longest,
        settings=settings,
        no_cut=no_cut,
    )
    cache = None
    # The head of an encoder may be called causal, too.
    decodes = all(getattr(module, part, True) for module in (attention, layers[0]) for part in _DECODES)
    if causal and decodes and family.caches:
        fused = None
        if shape.order is not None:
            fused = groups * size
        shrinks = set[str]()
        if not multi_query and not no_cut:
            shrinks = {path.rpartition(".")[2] for path in inputs}
        cache = describe_cache(
            network.config,
            modules,
            places,
            names=(shape.key, shape.value),
            fused=fused,
            cut=shrinks,
            units=units,
            offset=family.offset_positions,
        )
    notes = [f"matched by its structure ({shape.words}), and verified when it is loaded"]
    if queries > units:
        notes.append(
            f"{queries // units} query heads share one key-value group; each group counts as one head, is described by "
            "its mean attention map, and is pruned as a whole"
        )
    shown = None
    if len(layers) < len(listed):
        shown = places
        notes.append(f"{len(layers)} of its {len(listed)} layers have attention heads, and only these are shown")
    if feed_out is None:
        notes.append("a refit solves only the output projection of the attention")
    if not family.edits:
        notes.append("its attention maps can be read but not replaced, so methods that edit maps cannot be used")
    if no_cut is not None:
        notes.append(f"no cut: heads can only be masked, since {no_cut}; the only export of the model is drop-in")
    projections = {id(weight): weight.numel() for module in (*modules, *outputs) for weight in module.parameters()}
    return family, {
        "layers": len(layers),
        "heads": units,
        "group": queries // units,
        "head_size": channels // units,
        "hidden": int(hidden),
        "notes": tuple(notes),
        "no_cut": no_cut,
        "places": shown,
        "cache": cache,
        "details": {
            "attention": sum(projections.values()),
            "multiplied": _count_multiplied(network, writes=causal),
        },
    }


def _count_multiplied(network: Any, *, writes: bool) -> float:
    """The number of weights that the hidden states of a token are multiplied with.

    Embeddings are looked up; a model that ``writes`` multiplies with as many for the words of its vocabulary. Of
    experts only a few are chosen for a token.
    """
    names = ("num_local_experts", "num_experts", "n_routed_experts")
    experts = next((count for key in names if (count := getattr(network.config, key, None))), None)
    chosen = getattr(network.config, "num_experts_per_tok", None)
    share = 1.0
    if isinstance(experts, int) and isinstance(chosen, int):
        share = chosen / experts
    total = 0.0
    if writes:
        total += network.get_input_embeddings().weight.numel()
    for module in network.base_model.modules():
        for weight in module.parameters(recurse=False):
            if weight.ndim == 3:
                # Weights of all experts in one.
                total += weight.numel() * share
            elif weight.ndim == 2 and not isinstance(module, nn.Embedding):
                total += weight.numel()
    return total


def _find_layers(name: str, network: Any) -> tuple[_Candidate, tuple[int, ...]]:
    """Find the attention modules of the text encoder, or of a decoder without an encoder, and their layers' indices."""
    modules: dict[str, nn.Module] = dict(network.base_model.named_modules())
    places: dict[_Candidate, list[int]] = {}
    for path, module in modules.items():
        # The path of the outermost list that it lies in, and the index there.
        listed = re.match(r"(.*?)\.(\d+)(?:\.|$)", path)
        if listed is None or _ELSEWHERE.search(path) or any(hasattr(module, name) for name in _RECURRENT):
            continue
        fitting = (shape for shape in SHAPES if all(is_linear(getattr(module, part, None)) for part in shape.names))
        shape = next(fitting, None)
        parent = path.rpartition(".")[0]
        for end in _NAMES["outputs"]:
            output = f"{path}.{end}"
            if end.startswith("^"):
                output = f"{parent}.{end[1:]}"
            if shape is not None and is_linear(modules.get(output)):
                start = f"{listed[1]}.{listed[2]}."
                candidate = _Candidate(shape, listed[1], path[len(start) :], output[len(start) :])
                places.setdefault(candidate, []).append(int(listed[2]))
                break
    chosen = [candidate for candidate in places if "decoder" not in candidate.layers] or list(places)
    if len(chosen) > 1:
        # Layers of other kinds have no attention weights.
        interfaces = list[_Candidate]()
        for candidate in chosen:
            first = f"{candidate.layers}.{places[candidate][0]}.{candidate.attention}".rstrip(".")
            if _reads_interface(modules[first]):
                interfaces.append(candidate)
        chosen = interfaces or chosen
    if not chosen:
        raise ModelError(
            f"{name} has no layer with projections of queries, keys, values and an output, so it has no attention "
            "heads to prune; name a model with softmax attention"
        )
    if len(chosen) > 1:
        kinds = ", ".join(sorted(f"{candidate.layers}.*.{candidate.attention}" for candidate in chosen))
        raise ModelError(f"{name} has attention of several kinds ({kinds}), which is not supported; name another model")
    return chosen[0], tuple(places[chosen[0]])


def _rows(attention: nn.Module, name: str) -> int:
    return len(Projection(attention.get_submodule(name)).weight)


def _count(module: nn.Module, names: Names) -> int | None:
    return next((value for name in names if type(value := getattr(module, name, None)) is int), None)


def _reads_interface(attention: nn.Module) -> bool:
    """Whether the attention weights are computed by a function that can be exchanged."""
    return "ALL_ATTENTION_FUNCTIONS" in names_in_forward(attention)


def names_in_forward(module: nn.Module) -> set[str]:
    """The names of globals and attributes in the code of a module's forward pass."""
    return set(inspect.unwrap(type(module).forward).__code__.co_names)
