"""The peers: the ways to shrink the cache that are compared. A new one is a row, and a function for its model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cahp import methods
from cahp.recoveries import AT_ONCE, QUICK
from cahp.run.bench import Bench
from cahp.run.recovered import cut_model
from cahp.values import HeadMask, ModelError

if TYPE_CHECKING:
    from cahp.features.peers.merging import Merge, MergedMoments, Pairs
    from cahp.models.head_model import HeadModel

#: The shares of the cache that are saved, at least, where a peer can save any share.
CUTS = (0.2, 1 / 3, 0.5)
#: The context, in tokens, for which bytes are counted and speed is measured.
CONTEXT = 2048
#: What all are compared with.
REFERENCE = "groups"
#: Rounding errors of a share, at most.
_EXACT = 1e-9


@dataclass(frozen=True, eq=False)
class Shrunk:
    """A model with a smaller cache: the share of ``bytes`` per token that is left, and what was done, in words."""

    model: HeadModel
    bytes: float
    words: str


class PeerBench:
    """What the peers of one calibration sample share: its ``bench``, and what they measure on it."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.card = bench.card

    @property
    def units(self) -> int:
        """The number of key-value groups of all layers."""
        return self.card.layers * self.card.heads

    def count_share(self, mask: HeadMask) -> float:
        """The share of the bytes per token that is left under a mask."""
        full = HeadMask.full(self.card.layers, self.card.heads)
        return self.card.count_cached_bytes(mask, CONTEXT) / self.card.count_cached_bytes(full, CONTEXT)

    def choose(self, method: str, cut: float, *, min_per_layer: int = 1) -> HeadMask:
        """The most groups that a method keeps while so large a share of the groups is removed."""
        kept = math.floor(self.units * (1 - cut) + _EXACT)
        chosen = methods.get(method).choose(self.bench.evidence, budget=kept, min_per_layer=min_per_layer)
        return chosen.mask

    @cached_property
    def by_similarity(self) -> NDArray[np.float64]:
        """Cosine similarity ``(L,)`` of what enters and leaves each attention sublayer."""
        from cahp.features.peers.dropping import measure_similarity

        bench = self.bench
        inputs = bench.calibration.inputs
        measure = partial(measure_similarity, bench.model, inputs, progress=bench.evidence.progress)
        return bench.evidence.cached("similarity of attention sublayers", measure)

    @cached_property
    def merging(self) -> Merging:
        """How the key-value heads of each layer merge."""
        from cahp.features.peers import merging
        from cahp.features.peers.projections import find_parts
        from cahp.stages.recovery import choose_inputs

        model = self.bench.model
        progress = self.bench.evidence.progress
        pairs = merging.find_pairs(model)
        inputs = choose_inputs(self.bench.recoveries.inputs, seed=self.bench.settings.seed)
        predictions = self.bench.evidence.moments
        cached = merging.collect_cache_moments(model, inputs, progress=progress)
        merges = merging.find_merges(cached, predictions, find_parts(model), pairs)
        moments = merging.collect_merged_moments(model, merges, pairs, inputs, progress=progress)
        return Merging(merges, pairs, moments, merging.order_layers(merges, moments, predictions))


@dataclass(frozen=True, eq=False)
class Merging:
    """How the key-value heads of each layer merge, what that changes, and the layers in the order in which they do."""

    merges: list[Merge]
    pairs: Pairs
    moments: MergedMoments
    order: list[int]


#: Makes the model of a peer that saves at least the share of the cache, and may be refitted.
Make = Callable[[PeerBench, float], Shrunk]


@dataclass(frozen=True)
class Peer:
    """A row of the table.

    ``cuts`` are the shares of the cache that it saves at least. A ``calibrated`` peer depends on the calibration texts,
    and is measured for each seed. Of a ``simulated`` one only the outputs are real: nothing is smaller or faster.
    """

    name: str
    label: str
    make: Make
    cuts: tuple[float, ...] = CUTS
    calibrated: bool = True
    simulated: bool = False


def _recover(bench: PeerBench, mask: HeadMask, recovery: str) -> Shrunk:
    model = bench.bench.model
    recovered = bench.bench.recoveries.recover(mask, recovery)
    words = f"{bench.units - mask.count} of {bench.units} groups"
    if mask.empty_layers and mask.count % bench.card.heads == 0:
        words = f"{len(mask.empty_layers)} of {bench.card.layers} layers"
    return Shrunk(cut_model(model, mask, recovered), bench.count_share(mask), words)


def _remove_groups(bench: PeerBench, cut: float) -> Shrunk:
    return _recover(bench, bench.choose("obs-fisher", cut), QUICK.name)


def _remove_groups_quickly(bench: PeerBench, cut: float) -> Shrunk:
    return _recover(bench, bench.choose("obs-fisher", cut), AT_ONCE.name)


def _drop_by_cosine(bench: PeerBench, cut: float) -> Shrunk:
    from cahp.features.peers.dropping import drop_layers

    count = math.ceil(bench.card.layers * cut - _EXACT)
    return _recover(bench, drop_layers(bench.by_similarity, count, bench.card.heads), AT_ONCE.name)


def _drop_by_fisher(bench: PeerBench, cut: float) -> Shrunk:
    return _recover(bench, bench.choose("fisher-layers", cut, min_per_layer=0), AT_ONCE.name)


def _merge_heads(bench: PeerBench, cut: float) -> Shrunk:
    if bench.card.heads == 1:
        raise ModelError("each layer has one key-value head, which leaves none to merge it with")
    # A merged layer keeps one of its groups.
    saved = (bench.card.heads - 1) / bench.units
    return merge_first(bench, math.ceil(cut / saved - _EXACT))


def merge_first(bench: PeerBench, count: int) -> Shrunk:
    """Merge the key-value heads of the ``count`` layers whose merge costs least (at most all), after a quick refit."""
    from cahp.features.peers.merging import merge_layers, refit_outputs

    model = bench.bench.model
    merging = bench.merging
    layers = merging.order[:count]
    merged = merge_layers(model, {layer: merging.merges[layer] for layer in layers}, merging.pairs)
    refitted = refit_outputs(model, merged, layers, merging.moments)
    left = 1 - len(layers) * (bench.card.heads - 1) / bench.units
    return Shrunk(refitted, left, f"{len(layers)} of {bench.card.layers} layers")


def _quantise(bits: int) -> Make:
    def quantise(bench: PeerBench, cut: float) -> Shrunk:
        from cahp.features.peers.quantising import quantise_cache

        return Shrunk(quantise_cache(bench.bench.model, bits), _count_share(bench, bits), f"{bits} bits")

    return quantise


def _count_share(bench: PeerBench, bits: int) -> float:
    from cahp.features.peers.quantising import count_bits

    return count_bits(bits, bench.card.head_size // bench.card.group) / 16


def _stream_heads(bench: PeerBench, cut: float) -> Shrunk:
    from cahp.features.peers.streaming import FIRST, LATEST, stream_heads

    # The groups that would be removed stream, as many as it takes.
    saved = 1 - (FIRST + LATEST) / CONTEXT
    removed = min(bench.units, math.ceil(bench.units * cut / saved - _EXACT))
    # No layer is emptied, so none needs a minimum.
    mask = bench.choose("obs-fisher", removed / bench.units, min_per_layer=0)
    share = 1 - (1 - bench.count_share(mask)) * saved
    return Shrunk(stream_heads(bench.bench.model, mask), share, f"{removed} of {bench.units} groups")


def _quantise_rest(bench: PeerBench, cut: float) -> Shrunk:
    from cahp.features.peers.quantising import quantise_cache

    removed = _remove_groups(bench, cut)
    share = removed.bytes * _count_share(bench, 4)
    return Shrunk(quantise_cache(removed.model, 4), share, f"4 bits, {removed.words}")


#: All peers by name, in the order of tables.
PEERS: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(REFERENCE, "groups removed (obs-fisher), after refit", _remove_groups),
        Peer("groups-quick", "groups removed (obs-fisher), after quick refit", _remove_groups_quickly),
        Peer("layers-cosine", "attention layers dropped (cosine similarity), after quick refit", _drop_by_cosine),
        Peer("layers-fisher", "attention layers dropped (fisher-layers), after quick refit", _drop_by_fisher),
        Peer("merged", "key-value heads merged, after quick refit", _merge_heads),
        Peer("streaming", "streaming heads (first 4 and latest 64 tokens)", _stream_heads, (0.5,), simulated=True),
        Peer("8-bit", "a cache in 8 bits", _quantise(8), (0.0,), calibrated=False, simulated=True),
        Peer("4-bit", "a cache in 4 bits", _quantise(4), (0.0,), calibrated=False, simulated=True),
        Peer("4-bit-groups", "a cache in 4 bits and groups removed, after refit", _quantise_rest, simulated=True),
    )
}
