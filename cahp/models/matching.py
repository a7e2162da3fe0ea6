"""Match a model type by the structure of its attention, not by its name.

The network is built without weights (on the ``meta`` device), and its modules are compared with the table of
``cahp.models.shapes``. The result is a ``Family`` like those in ``cahp.models.families``; the self-test of the loaded
model proves it (``cahp.models.selftest``).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from cahp.models.families import Family, Rows
from cahp.models.language import Head, language_of
from cahp.models.projection import Projection, is_linear
from cahp.models.shapes import (
    BESIDE,
    CHANNELS,
    ELSEWHERE,
    FEEDS,
    GROUPS,
    HEADS,
    OUTPUTS,
    PLANES,
    SHAPES,
    SHARED,
    SHARING,
    VECTORS,
    Shape,
)
from cahp.models.sketch import sketch_network
from cahp.models.weights import CONFIG, read_json
from cahp.values import ModelError


@dataclass(frozen=True)
class Match:
    """The heads of a network.

    Each layer has ``heads`` units of ``group`` query heads and ``head_size`` channels of the output projection;
    ``places`` are the indices of the layers with attention among all layers.
    """

    family: Family
    heads: int
    group: int
    head_size: int
    hidden: int
    places: tuple[int, ...]
    #: Number of layers without heads.
    between: int


def match_folder(name: str, folder: str, *, weight_bytes: int) -> Match:
    """Find the heads of the model ``name`` in ``folder``, with so many bytes of weights, from its configuration.

    Raises:
        ModelError: As ``match_network``, and if transformers has no text classifier of that architecture.
    """
    config = read_json(Path(folder) / CONFIG)
    kind = str(config.get("model_type", ""))[:60]
    head = choose_sketch_head(config)
    if head is None or kind not in CONFIG_MAPPING_NAMES:
        raise ModelError(
            f"{name} is of the architecture {kind or 'unknown'}, of which transformers has no text classifier; "
            "name a model whose head is a ForSequenceClassification"
        )
    network = sketch_network(name, folder, None, head, weight_bytes=weight_bytes)
    try:
        return match_network(name, network)
    except ModelError:
        raise
    except Exception as error:  # an unknown network raises anything
        raise ModelError(
            f"{name} is of the architecture {kind}, whose attention is not supported "
            f"({type(error).__name__}: {str(error)[:100]}); name another text classifier"
        ) from None


def choose_sketch_head(config: Mapping[str, Any]) -> Head | None:
    """What a network of this configuration is sketched with: a classifier where transformers has one of its type."""
    known = str(config.get("model_type")) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    return "classification" if known else language_of(config)


@dataclass(frozen=True)
class _Candidate:
    """Attention modules of one path, in a list of layers: ``layers``.INDEX.``attention``."""

    shape: Shape
    layers: str
    attention: str
    output: str
    places: tuple[int, ...]

    @property
    def first(self) -> str:
        """The path of the first of the modules."""
        return f"{self.layers}.{self.places[0]}.{self.attention}".rstrip(".")


def match_network(name: str, network: Any) -> Match:
    """Find the heads of ``network``, the classifier ``name``.

    Raises:
        ModelError: If no shape fits, with the reason.
    """
    base: nn.Module = network.base_model
    found = _chosen(name, network, list(_candidates(base)))
    listed = base.get_submodule(found.layers)
    assert isinstance(listed, nn.ModuleList)
    layers = [listed[place] for place in found.places]
    first = layers[0].get_submodule(found.attention)
    output = Projection(layers[0].get_submodule(found.output))
    queries = _count(first, HEADS) or int(getattr(network.config.get_text_config(), "num_attention_heads", 0) or 0)
    hidden, channels = output.weight.shape
    if not queries or channels % queries:
        raise ModelError(
            f"{name} has {channels} channels of attention output for {queries or 'an unknown number of'} heads, which "
            "does not divide; name another model"
        )
    for layer in layers:
        if Projection(layer.get_submodule(found.output)).weight.shape[1] != channels:
            raise ModelError(f"{name} has layers of different widths, which is not supported; name another model")
    anatomy = _Anatomy(found, layers, first, queries, channels)
    return Match(
        family=anatomy.family(base),
        heads=anatomy.units,
        group=anatomy.group,
        head_size=channels // anatomy.units,
        hidden=int(hidden),
        places=found.places,
        between=len(listed) - len(layers),
    )


def _candidates(base: nn.Module) -> Iterator[_Candidate]:
    modules = dict(base.named_modules())
    places: dict[tuple[Shape, str, str, str], list[int]] = {}
    for path, module in modules.items():
        if not re.search(r"\.\d+(\.|$)", path) or any(word in path for word in ELSEWHERE):
            continue
        shape = next((one for one in SHAPES if all(is_linear(getattr(module, name, None)) for name in one.names)), None)
        if shape is None:
            continue
        output = _output(modules, path)
        if output is None:
            continue
        layers, index = _listed(path)
        prefix = f"{layers}.{index}"
        relative = [one.removeprefix(prefix).removeprefix(".") for one in (path, output)]
        places.setdefault((shape, layers, *relative), []).append(index)  # type: ignore[arg-type]
    for (shape, layers, attention, output), indices in places.items():
        yield _Candidate(shape, layers, attention, output, tuple(indices))


def _listed(path: str) -> tuple[str, int]:
    """The path of the outermost list that ``path`` lies in, and the index there."""
    layers, index = re.match(r"^(.*?)\.(\d+)(?:\.|$)", path).groups()  # type: ignore[union-attr]
    return layers, int(index)


def _output(modules: dict[str, nn.Module], path: str) -> str | None:
    parent = path.rpartition(".")[0]
    for name in OUTPUTS:
        there = f"{parent}.{name[1:]}" if name.startswith("^") else f"{path}.{name}"
        if is_linear(modules.get(there)):
            return there
    return None


def _chosen(name: str, network: Any, found: list[_Candidate]) -> _Candidate:
    """The heads of the text encoder, or of a decoder without an encoder."""
    encoders = [one for one in found if "decoder" not in one.layers] or found
    config = network.config.get_text_config()
    expected = getattr(config, "num_hidden_layers", None)
    if len(encoders) > 1:
        # Layers of other kinds have no attention weights.
        softmax = [one for one in encoders if _reads_interface(network.base_model.get_submodule(one.first))]
        encoders = softmax or encoders
    if len(encoders) > 1:
        # Then the list with as many layers as the configuration says.
        encoders = [one for one in encoders if len(one.places) == expected] or encoders
    if not encoders:
        raise ModelError(
            f"{name} has no layer with projections of queries, keys, values and an output, so it has no attention "
            "heads to prune; name a model with softmax attention"
        )
    if len(encoders) > 1:
        lists = ", ".join(sorted({one.layers for one in encoders}))
        raise ModelError(f"{name} has attention of several kinds ({lists}), which is not supported; name another model")
    return encoders[0]


class _Anatomy:
    """Sizes of one attention module, read off its projections."""

    def __init__(
        self, found: _Candidate, layers: list[nn.Module], first: nn.Module, queries: int, channels: int
    ) -> None:
        self._found, self._layers, self._first, self._queries, self._channels = found, layers, first, queries, channels
        groups = self._groups()
        #: Where all heads share one key-value head, the query heads are the units, and keys and values stay.
        self._multi_query = groups == 1 < queries
        self.units = queries if self._multi_query else groups
        self.group = queries // self.units

    def _rows(self, name: str) -> int:
        return len(Projection(self._first.get_submodule(name)).weight)

    def _groups(self) -> int:
        shape, size = self._found.shape, self._channels // self._queries
        if shape.order is not None:
            rows, said = self._rows(shape.query), _count(self._first, GROUPS)
            if rows == 3 * self._channels:
                return self._queries
            # All queries, and keys and values of fewer heads.
            groups = (rows - self._channels) // (2 * size)
            return groups if said is None else said
        if shape.key == shape.value:
            return self._queries
        return max(1, self._rows(shape.value) // size)

    def family(self, base: nn.Module) -> Family:
        found, first = self._found, self._first
        prefix = f"{found.attention}." if found.attention else ""
        own = _reads_interface(first)
        inputs, selects = self._inputs(own)
        feed = next(((o, i) for o, i in FEEDS if all(_fits(layer, o) for layer in self._layers)), (None, None))
        planes = next((name for name in PLANES if name in inspect.signature(first.forward).parameters), None)
        through = planes is not None and own
        return Family(
            layers=found.layers,
            attention=found.attention,
            inputs={f"{prefix}{name}": rows for name, rows in inputs.items()},
            extra_inputs=tuple(f"{prefix}{name}" for name in BESIDE if is_linear(getattr(first, name, None))),
            vectors=tuple(f"{prefix}{name}" for name in VECTORS if name in dict(first.named_parameters(recurse=False))),
            output=found.output,
            feed_out=feed[0],
            feed_in=feed[1] if feed[1] is not None and all(_at(layer, feed[1]) for layer in self._layers) else None,
            residual="pre",
            interface=own,
            weights=None if own else _dropout(first),
            sizes=self._sizes(),
            planes=None if own else planes,
            selects=selects or through or hasattr(first, "relative_attention_bias"),
            matched=found.shape.words,
            own_arguments=True,
            causal=bool(getattr(first, "is_causal", False)),
            caches=hasattr(base.config, "use_cache"),
            offset_positions=any(
                path.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None
                for path, module in base.named_modules()
            ),
            # Short texts are attended to as a whole by sparse attention too.
            longest=_longest(base.config),
            settings={"attention_type": "original_full"} if hasattr(base.config, "attention_type") else {},
            no_cut=self._unknown(),
        )

    def _inputs(self, own: bool) -> tuple[dict[str, Rows], bool]:
        """The projections that are cut, and whether queries and keys are selected after they were computed instead."""
        shape, inputs = self._found.shape, {}
        if shape.order is not None:
            if self._multi_query:
                inputs[shape.query] = Rows((1,), shared=2)
            elif self._rows(shape.query) != 3 * self._channels and shape.order == "stacked":
                inputs[shape.query] = Rows((self.group, 1, 1))
            elif shape.order == "stacked" and getattr(self._first, "multi_query", None) is None:
                inputs[shape.query] = Rows((1, 1, 1))
            else:
                inputs[shape.query] = Rows((1,))
            return inputs, False
        inputs = {name: Rows((1,)) for name in shape.names}
        if self._multi_query:
            inputs.pop(shape.key)
            inputs.pop(shape.value, None)
        if own and self._normed_together():
            # A normalisation over all heads needs all of them.
            inputs.pop(shape.query)
            inputs.pop(shape.key, None)
            return inputs, True
        return inputs, False

    def _normed_together(self) -> bool:
        for norm, name in (("q_norm", self._found.shape.query), ("k_norm", self._found.shape.key)):
            weight = getattr(getattr(self._first, norm, None), "weight", None)
            if weight is not None and weight.numel() == self._rows(name) != self._rows(name) // self.units:
                return True
        return False

    def _sizes(self) -> dict[str, Any]:
        sizes: dict[str, Any] = {}
        own = {name: value for name, value in vars(self._first).items() if type(value) is int}
        for name in HEADS:
            if own.get(name) == self._queries:
                sizes[name] = "heads"
        for name in GROUPS:
            if own.get(name) == self.units and not self._multi_query:
                sizes[name] = "units"
        for name in CHANNELS:
            if own.get(name) == self._channels:
                sizes[name] = "channels"
        if self._multi_query:
            sizes |= {name: "heads" for name in SHARING if own.get(name) == self._queries}
        said = "num_attention_heads"
        if hasattr(self._first, "config") and said not in own and {"config", said} <= _names(self._first):
            sizes[f"config.{said}"] = "heads"
        return sizes

    def _unknown(self) -> str | None:
        """Why heads cannot be cut out: a parameter of their module whose part in each head is not known."""
        known = {*self._found.shape.names, *OUTPUTS, *BESIDE}
        for path, parameter in self._first.named_parameters():
            name, head = path.rpartition(".")[0], path.partition(".")[0]
            if head in SHARED or head in known or path in VECTORS:
                continue
            if parameter.ndim > 1 or "." not in path or "norms" in name:
                return f"its attention has {path}, whose part in each head is not known"
        return None


def _longest(config: Any) -> int | None:
    """The largest number of tokens for which BigBird's attention is not sparse."""
    if getattr(config, "attention_type", None) != "block_sparse":
        return None
    return int((5 + 2 * config.num_random_blocks) * config.block_size)


def _count(module: nn.Module, names: tuple[str, ...]) -> int | None:
    return next((value for name in names if type(value := getattr(module, name, None)) is int), None)


def _at(layer: nn.Module, path: str) -> nn.Module | None:
    try:
        return layer.get_submodule(path)
    except AttributeError:
        return None


def _fits(layer: nn.Module, path: str) -> bool:
    return is_linear(_at(layer, path))


def _reads_interface(attention: nn.Module) -> bool:
    """Whether the attention weights are computed by a function that can be exchanged."""
    return "ALL_ATTENTION_FUNCTIONS" in _names(attention)


def _names(attention: nn.Module) -> set[str]:
    """Names in the code of a module's forward pass."""
    return set(inspect.unwrap(type(attention).forward).__code__.co_names)


def _dropout(attention: nn.Module) -> str | None:
    names = [name for name, child in attention.named_children() if isinstance(child, nn.Dropout)]
    return next((name for name in ("attention_dropout", "attn_dropout", "dropout") if name in names), None)
