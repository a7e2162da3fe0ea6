"""Similarity of heads on one text: their attention maps, distances between heads, and communities of a graph."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cahp.models.tokenizing import Encoded, split_text, tokenize_own
from cahp.values import Array, Floats, Floats32, HeadMask, Input, Ints, JsonObject, Progress, silent

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel

STAGE = "distances"

#: Mean number of edges per head that keeps a graph readable.
_EDGES_A_HEAD = 3


@dataclass(frozen=True, eq=False)
class Attention:
    """The attention of every head on one input.

    ``tokens (S,)`` as text, ``weights (L, H, S, S)`` float32 whose rows (queries) sum to 1, and ``cut``, the number of
    tokens beyond the model's longest input.
    """

    tokens: tuple[str, ...]
    weights: Floats32
    cut: int

    @property
    def by_head(self) -> Floats32:
        """The maps by flat index, shape ``(N, S, S)``."""
        return self.weights.reshape(-1, *self.weights.shape[2:])


def attend(model: HeadModel, text: Input) -> Attention:
    """The attention of every head of the unpruned ``model`` on a text or a pair of texts.

    Raises:
        DataError: If the text has no tokens.
    """
    entry, tokens, truncated = read_tokens(model, text)
    return Attention(tokens, _read_maps(model, entry), truncated)


def _read_maps(model: HeadModel, entry: Encoded, change: Callable[[Floats32], Array] = np.asarray) -> Array:
    """Run the model on one tokenised text; return what ``change`` makes of the maps ``(H, S, S)``, layer by layer."""
    from torch import Tensor, inference_mode

    maps = {}

    def watch(layer: int, seen: Tensor) -> None:
        maps[layer] = change(seen[0].float().cpu().numpy())

    with inference_mode():
        model.logits(model.batches([entry])[0], probe=watch)
    return np.stack([maps[layer] for layer in range(model.layers)])


def join_words(maps: Floats, queries: Ints, keys: Ints, count: int) -> Floats:
    """Join the attention of tokens ``(N, S, S)`` to that of words ``(N, W, W)``.

    ``queries`` and ``keys (S,)`` are the word of each token that attends, or is attended to; -1: none. Attention is
    summed over the tokens of the attended word, and averaged over those of the word that attends.
    """
    attends = (queries[:, None] == np.arange(count)).astype(np.float64)
    attended = (keys[:, None] == np.arange(count)).astype(np.float64)
    attends /= np.maximum(attends.sum(axis=0), 1)
    return np.asarray(np.einsum("sw,nst,tv->nwv", attends, maps, attended, optimize=True))


class Arc(NamedTuple):
    """The attention that the word at ``query`` pays to the word at ``key``."""

    query: int
    key: int
    weight: float


def read_words(model: HeadModel, text: Input, *, most: int, last: bool = False) -> tuple[list[str], Floats]:
    """Return the words of a text or a pair, and the attention ``(N, W, W)`` of all heads between the first ``most``.

    See ``join_words``; with ``last``, the last token of a word attends for the whole word.

    Raises:
        DataError: If the text has no tokens.
    """
    entry, _, _ = read_tokens(model, text)
    words, groups = find_words(*_find_spans(model, text, entry["input_ids"]))
    count = min(len(words), most)
    groups[groups >= count] = -1
    queries = groups.copy()
    if last:
        queries[:-1][groups[1:] == groups[:-1]] = -1
    maps = _read_maps(model, entry, lambda seen: join_words(seen.astype(np.float64), queries, groups, count))
    return words, np.concatenate(maps)


def find_arcs(attention: Floats, *, most: int, least: float) -> tuple[Arc, ...]:
    """Return at most so many of the strongest arcs between different words, of one head's ``attention (W, W)``.

    Their weights are larger than ``least``.
    """
    between = np.array(attention, dtype=np.float64)
    np.fill_diagonal(between, 0)
    strongest = np.argsort(-between, axis=None, kind="stable")[:most]
    arcs = []
    for query, key in zip(*np.unravel_index(strongest, between.shape), strict=True):
        if between[query, key] > least:
            arcs.append(Arc(int(query), int(key), float(between[query, key])))
    return tuple(arcs)


def _find_spans(model: HeadModel, text: Input, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """Return a text with the place of each token in it: the text itself, or where that is not known its tokens."""
    from cahp.models.loading import special_ids

    tokenizer = model.tokenizer
    first: Any = text
    second = ""
    if not isinstance(text, str):
        first, second = text
    if model.prompt is None and tokenizer.is_fast:
        limit: JsonObject = {"truncation": True, "max_length": model.max_length}
        encoded = tokenizer(first, second or None, return_offsets_mapping=True, **limit)
        if encoded["input_ids"] == list(ids):
            # The second text of a pair stands after the first one, with a space between them.
            starts = (0, len(first) + 1)
            spans = []
            for (low, high), part in zip(encoded["offset_mapping"], encoded.sequence_ids(0), strict=True):
                start = starts[part or 0]
                spans.append((start + low, start + high))
            return f"{first} {second}", spans
    written = split_text(tokenizer, ids)
    whole = "".join(written)
    # A prompt has words of its own, which are not the person's.
    begin = max(0, whole.lower().find(first.lower()))
    special = special_ids(tokenizer)
    spans = []
    end = 0
    for token, part in zip(ids, written, strict=True):
        start = end
        end += len(part)
        if token in special or end <= begin:
            start = end
        spans.append((start, end))
    return " " * begin + whole[begin:], spans


#: Letters and digits, with accents, vowels on the letter before and joiners.
_LETTERS = r"[\p{L}\p{N}][\p{L}\p{N}\p{Mn}\p{Mc}\u200c\u200d]*"
#: A word may have marks inside; scripts without spaces are read character by character.
_WORD = rf"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|{_LETTERS}(?:['’\-]{_LETTERS})*"


def find_words(text: str, spans: Sequence[tuple[int, int]]) -> tuple[list[str], Ints]:
    """Find the words of a text, and the word of each token ``(S,)``, given its place in the text; -1: it has none.

    Punctuation and special tokens belong to no word. Words without a token, which were truncated, are left out.
    """
    # Imported here, as most texts are not read word by word.
    import regex

    found = list(regex.finditer(_WORD, text))
    groups = np.full(len(spans), -1, dtype=np.int64)
    # The words that have a token, by their place in the text.
    words: dict[int, str] = {}
    for token, (low, high) in enumerate(spans):
        place = bisect_right(found, low, key=regex.Match.end)
        if place < len(found) and found[place].start() < high and low < high:
            words[place] = found[place].group()
            groups[token] = len(words) - 1
    return list(words.values()), groups


def read_tokens(model: HeadModel, text: Input) -> tuple[Encoded, tuple[str, ...], int]:
    """Tokenise a text or a pair of texts: token ids by name, the tokens as text, and how many were cut off.

    That of a language model begins with the token before a first one, and is open; see ``tokenize_own``.

    Raises:
        DataError: If the text has no tokens.
    """
    entry, whole = tokenize_own(model, text)
    ids = entry["input_ids"]
    # Decoded one by one, since byte-level vocabularies have no readable words.
    return entry, tuple(model.tokenizer.decode([token]).strip() for token in ids), whole - len(ids)


def predict_text(model: HeadModel, text: Input, mask: HeadMask | None = None) -> tuple[Floats, int]:
    """Predict one text or pair with the heads of ``mask`` (None: with those that the model has).

    Returns the probabilities ``(C,)`` of the classes, or of a language model those of all next tokens, and how many
    tokens were cut off.

    Raises:
        DataError: If the text has no tokens.
    """
    import torch

    entry, _, truncated = read_tokens(model, text)
    with torch.inference_mode():
        scores = model.logits(model.batches([entry])[0], gates=model.gates_of(mask))
    probabilities: Floats = scores[0].double().softmax(-1).cpu().numpy()
    return probabilities, truncated


def distances(weights: Floats, *, progress: Progress = silent) -> Floats:
    """Distances of heads by their attention: ``(N, N)``, symmetric, 0 (equal) to 1 (no token in common).

    ``weights (..., S, S)`` has one map per head over real tokens. The distance is the square root of the Jensen-Shannon
    divergence with base 2 of two heads' rows (a metric: Endres and Schindelin 2003), averaged over the ``S`` queries.
    ``progress`` is called before every query and at the end.
    """
    from scipy.spatial.distance import pdist, squareform

    maps = weights.reshape(-1, *weights.shape[-2:]).astype(np.float64)
    queries = maps.shape[1]
    total = 0.0
    for query in range(queries):
        progress(STAGE, query, queries)
        total = total + pdist(maps[:, query], "jensenshannon")
    progress(STAGE, queries, queries)
    # Natural logarithms become those of base 2.
    return np.asarray(squareform(total / queries / np.sqrt(np.log(2))))


@dataclass(frozen=True, eq=False)
class HeadGraph:
    """A graph in which similar heads are near and joined.

    ``edges (E, 2)`` pairs of flat indices, ``similarity (E,)`` 1 - distance, ``backbone (E,)`` whether an edge belongs
    only to the tree that connects the graph, ``communities (N,)`` numbered from the largest, ``positions (N, 2)`` in
    -1..1.
    """

    edges: Ints
    similarity: Floats
    backbone: NDArray[np.bool_]
    communities: Ints
    positions: Floats


def suggest_threshold(distances: Floats) -> float:
    """The similarity above which a graph has about three edges a head."""
    upper = 1 - distances[np.triu_indices(len(distances), 1)]
    wanted = min(len(upper), _EDGES_A_HEAD * len(distances))
    if not wanted:
        return 1.0
    place = len(upper) - wanted
    return float(np.partition(upper, place)[place])


def head_graph(distances: Floats, *, threshold: float, seed: int = 42) -> HeadGraph:
    """Join heads whose similarity, 1 - distance, is at least ``threshold``, and compute communities and a layout.

    The tree of the strongest similarities (a maximum spanning tree) is always kept, so that no head is isolated.
    Communities are Louvain's (Blondel et al. 2008) on the edges weighted by similarity; the layout is a seeded spring
    model (Fruchterman and Reingold 1991).
    """
    import networkx as nx
    from scipy.sparse.csgraph import minimum_spanning_tree

    heads = len(distances)
    above = np.triu(1 - distances >= threshold, 1)
    # Plus 1, because a distance of 0 would be no edge.
    tree = minimum_spanning_tree(np.triu(distances + 1.0, 1)).toarray() > 0
    edges = np.argwhere(above | tree)
    strength = 1 - np.asarray(distances[edges[:, 0], edges[:, 1]], dtype=np.float64)
    graph = nx.Graph()
    graph.add_nodes_from(range(heads))
    # An edge of weight 0 would not connect its heads in the layout.
    graph.add_weighted_edges_from(zip(*edges.T.tolist(), np.maximum(strength, 1e-6).tolist(), strict=True))
    louvain = nx.community.louvain_communities(graph, weight="weight", seed=seed)
    groups = sorted((sorted(group) for group in louvain), key=lambda group: (-len(group), group[0]))
    communities = np.empty(heads, dtype=np.int64)
    for number, group in enumerate(groups):
        communities[group] = number
    return HeadGraph(
        edges,
        strength,
        ~above[edges[:, 0], edges[:, 1]],
        communities,
        _layout(graph, seed),
    )


def _layout(graph: Any, seed: int) -> Floats:
    import networkx as nx

    heads = len(graph)
    if heads == 1:
        return np.zeros((1, 2))
    # Wider than networkx's default, which places communities on top of each other; fewer steps for many heads.
    placed = nx.spring_layout(
        graph,
        k=2.2 / np.sqrt(heads),
        weight="weight",
        seed=seed,
        method="force",
        iterations=int(np.clip(24_000 // heads, 20, 120)),
    )
    positions = np.array([placed[head] for head in range(heads)], dtype=np.float64)
    # It leaves most of the frame to a few outliers. Half way to the ranks, heads fill it.
    ranks = positions.argsort(axis=0).argsort(axis=0) / (heads - 1)
    return _to_frame(_to_frame(positions) + _to_frame(ranks))


def _to_frame(positions: Floats) -> Floats:
    """Moved and stretched to -1..1 in both directions."""
    low = positions.min(axis=0)
    high = positions.max(axis=0)
    return np.asarray(2 * (positions - low) / np.where(high > low, high - low, 1) - 1)


def nearest_heads(distances: Floats, head: int, *, count: int) -> list[int]:
    """The ``count`` heads most similar to ``head``, nearest first."""
    order = np.argsort(distances[head], kind="stable")
    return [int(other) for other in order if other != head][:count]
