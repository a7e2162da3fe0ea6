"""``cahp.similarity``: the heads that attend alike on a text, as on the page My text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cahp import models
from cahp.api.figures import add_title, check_plotly, mime_bundle
from cahp.api.options import AnyMask, Name, ShowProgress, is_loaded, show_progress, use_mask
from cahp.figures.similarity import attention_figure, graph_figure
from cahp.stages.similarity import HeadGraph, attend, distances, head_graph, nearest_heads, suggest_threshold
from cahp.values import Fields, Floats, HeadMask, Input, OptionError

if TYPE_CHECKING:
    from networkx import Graph

    from cahp.models.head_model import HeadModel


@dataclass(frozen=True, eq=False, repr=False)
class AttentionPattern:
    """The attention of one head to a text.

    Attributes:
        layer: The head's layer, from 0.
        head: The head's number in its layer, from 0.
        tokens: The ``S`` tokens of the text.
        weights: ``(S, S)`` float32: from the token of the row to the token of the column; each row sums to 1.
        unit: What a head is called: ``head``, or ``group`` where query heads share keys and values.
    """

    layer: int
    head: int
    tokens: tuple[str, ...]
    weights: NDArray[np.float32]
    unit: str = "head"

    def plot(self, *, dark: bool = False) -> Any:
        """The pattern as a heat map, a ``plotly.graph_objects.Figure``.

        Raises:
            OptionError: If plotly is not installed.
        """
        check_plotly()
        return add_title(attention_figure(self.tokens, self.weights, dark=dark), repr(self), dark=dark)

    def __repr__(self) -> str:
        return f"Layer {self.layer}, {self.unit} {self.head} on a text of {len(self.tokens)} tokens"

    _repr_mimebundle_ = mime_bundle


@dataclass(frozen=True, eq=False, repr=False)
class SimilarityGraph(HeadGraph):
    """The heads as a graph in which similar heads are near each other and joined.

    Attributes:
        edges: ``(E, 2)`` pairs of flat indices, ``layer * heads + head``.
        similarity: ``(E,)`` 1 - distance, in 0..1.
        backbone: ``(E,)`` whether an edge belongs only to the tree that keeps the graph connected.
        communities: ``(N,)`` the community of each head, numbered from the largest.
        positions: ``(N, 2)`` in -1..1, for drawing.
        mask: The kept heads.
        unit: What a head is called: ``head``, or ``group`` where query heads share keys and values.
    """

    mask: HeadMask = field(kw_only=True)
    unit: str = field(default="head", kw_only=True)

    def plot(self, *, dark: bool = False) -> Any:
        """The graph as a ``plotly.graph_objects.Figure``.

        Raises:
            OptionError: If plotly is not installed.
        """
        check_plotly()
        return add_title(graph_figure(self, self.mask, unit=self.unit, dark=dark), repr(self), dark=dark)

    def to_networkx(self) -> Graph:
        """The graph for networkx; nodes have ``layer``, ``head``, ``community``, ``kept``, and edges ``similarity``."""
        import networkx as nx

        graph = nx.Graph()
        for node, community in enumerate(self.communities.tolist()):
            layer, head = divmod(node, self.mask.heads)
            graph.add_node(node, layer=layer, head=head, community=community, kept=bool(self.mask.keep[layer, head]))
        pairs = zip(*self.edges.T.tolist(), self.similarity.tolist(), strict=True)
        graph.add_weighted_edges_from(pairs, weight="similarity")
        return graph

    def __repr__(self) -> str:
        groups = int(self.communities.max()) + 1
        joined = int((~self.backbone).sum())
        return f"{len(self.communities)} {self.unit}s in {groups} communities that attend alike, {joined} pairs joined"

    _repr_mimebundle_ = mime_bundle


@dataclass(frozen=True, eq=False, repr=False)
class SimilarityResult:
    """The attention of all heads of a model to one text, and the distances between the heads.

    Attributes:
        model: The model's name.
        tokens: The ``S`` tokens of the text.
        weights: ``(layers, heads, S, S)`` float32, each row of a head's map sums to 1.
        distances: ``(N, N)`` in 0..1 with ``N = layers * heads``, flat index ``layer * heads + head``: the square root
            of the Jensen-Shannon divergence (base 2) of two heads' rows, averaged over tokens; 0 is the same attention.
        mask: The kept heads; all heads unless the result belongs to a pruned run.
        cut: The number of tokens of the text beyond the length that the model reads.
        unit: What a head is called: ``head``, or ``group`` where query heads share keys and values.
    """

    model: str
    tokens: tuple[str, ...]
    weights: NDArray[np.float32]
    distances: Floats
    mask: HeadMask
    cut: int = 0
    unit: str = "head"

    def graph(self, threshold: float | None = None, *, seed: int = 42) -> SimilarityGraph:
        """Join the heads whose similarity, 1 - distance, is at least ``threshold`` (0..1), and find communities.

        Without a threshold, about three edges per head remain. The graph shows itself in a notebook.
        """
        if threshold is None:
            threshold = suggest_threshold(self.distances)
        graph = head_graph(self.distances, threshold=threshold, seed=seed)
        return SimilarityGraph(**vars(graph), mask=self.mask, unit=self.unit)

    def attention(self, layer: int, head: int) -> AttentionPattern:
        """The attention of one head. It shows itself in a notebook.

        Raises:
            OptionError: If the model has no such head.
        """
        self._flat(layer, head)
        return AttentionPattern(layer, head, self.tokens, self.weights[layer, head], self.unit)

    def nearest(self, layer: int, head: int, *, count: int = 3) -> list[tuple[int, int, float]]:
        """The heads most similar to one head, nearest first, each as layer, head and distance (0..1).

        Raises:
            OptionError: If the model has no such head.
        """
        flat = self._flat(layer, head)
        near = nearest_heads(self.distances, flat, count=count)
        return [(*divmod(other, self.mask.heads), float(self.distances[flat, other])) for other in near]

    def __repr__(self) -> str:
        cut = f" ({self.cut} more were cut off)" if self.cut else ""
        return f"{self.model} on a text of {len(self.tokens)} tokens{cut}: {self.graph()!r}"

    def _repr_mimebundle_(self, **_: Any) -> Fields:
        return {**self.graph()._repr_mimebundle_(), "text/plain": repr(self)}

    def _flat(self, layer: int, head: int) -> int:
        layers, heads = self.mask.keep.shape
        if not (0 <= layer < layers and 0 <= head < heads):
            raise OptionError(
                f"there is no head {head} in layer {layer}; layers are 0..{layers - 1} and heads 0..{heads - 1}"
            )
        return layer * int(heads) + head


def similarity(
    model: Name | HeadModel,
    text: Input,
    *,
    mask: AnyMask | None = None,
    device: str = "auto",
    progress: ShowProgress = None,
    yes: bool = False,
) -> SimilarityResult:
    """Measure the attention of all heads of a model to a text, and find the heads that attend alike.

    ``cahp.similarity("minilm-bbc", "any text").graph()`` is the graph of the explorer's page My text.

    Args:
        model: A built-in, a hub id, a folder, a GGUF file, or a model loaded by ``cahp.load``.
        text: A text, or a pair of texts as a tuple.
        mask: The heads to show as kept (None: all).
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        progress, yes: See ``cahp.prune``.

    Raises:
        CahpError: If the model cannot be loaded, or the text is empty.
    """
    with show_progress(progress, yes=yes) as reporter:
        if not is_loaded(model):
            reporter("load", 0, 1)
            model = models.load(model, device=device)
            reporter("load", 1, 1)
        keep = model.card.full_mask
        if mask is not None:
            keep = use_mask(model.card, mask)
        seen = attend(model, text)
        between = distances(seen.weights, progress=reporter)
    return SimilarityResult(model.card.id, seen.tokens, seen.weights, between, keep, seen.cut, model.card.unit)
