"""What ``peers`` compares: the ways to shrink the cache, and the texts that all read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from _cache_changes import FIRST, LATEST, count_bits, drop_layers, measure_similarity, quantise_cache, stream_heads
from _peer_rows import CONTEXT, REFERENCE

from cahp import Settings, methods, open_bench
from cahp.models.cards import ModelCard, Throughput
from cahp.models.head_model import HeadModel
from cahp.models.windows import read_twice, start_token, usual_tokens
from cahp.run.bench import Bench
from cahp.run.recoveries import cut_model
from cahp.run.texts import load_data
from cahp.store import Store
from cahp.tasks import NEXT_TOKEN
from cahp.tasks.answers import NO_LABEL, Window
from cahp.tasks.texts import Texts
from cahp.values import Floats, HeadMask, OptionError, Progress, silent

#: The shares of the cache that are saved, at least, where a way can save any share.
CUTS = (0.2, 1 / 3, 0.5)
#: Bytes of the state of a bypass of rank 1 in a layer: the token before, and three running means, in float32.
STATE = 16
#: Rounding errors of a share, at most.
EXACT = 1e-9
#: Tokens of a passage that is read twice, longer than what streaming heads see, and the number of each kind.
PASSAGE = 96
PASSAGES = 8


# The ways to shrink the cache ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Shrunk:
    """A model with a smaller cache: the share of ``bytes`` per token that is left, and what was done, in words."""

    model: HeadModel
    bytes: float
    words: str


def count_share(card: ModelCard, mask: HeadMask) -> float:
    """The share of the bytes per token that is left under a mask."""
    full = HeadMask.full(card.layers, card.heads)
    return card.count_cached_bytes(mask, CONTEXT) / card.count_cached_bytes(full, CONTEXT)


def count_streaming(card: ModelCard, mask: HeadMask) -> float:
    """The share of the bytes that is left if the groups that a mask drops cache their first and latest tokens only."""
    full = HeadMask.full(card.layers, card.heads)
    streamed = card.count_cached_bytes(full, FIRST + LATEST) - card.count_cached_bytes(mask, FIRST + LATEST)
    return (card.count_cached_bytes(mask, CONTEXT) + streamed) / card.count_cached_bytes(full, CONTEXT)


def choose(bench: Bench, method: str, cut: float, *, min_per_layer: int = 1) -> HeadMask:
    """The most groups that a method keeps while so large a share of the groups is removed."""
    kept = math.floor(bench.card.layers * bench.card.heads * (1 - cut) + EXACT)
    return methods.get(method).choose(bench.evidence, budget=kept, min_per_layer=min_per_layer).mask


def recover(bench: Bench, mask: HeadMask, recovery: str) -> Shrunk:
    """Remove the groups that a mask drops, and recover."""
    recovered = bench.recoveries.recover(mask, recovery)
    words = f"{mask.keep.size - mask.count} of {mask.keep.size} groups"
    if mask.empty_layers and mask.count % bench.card.heads == 0:
        words = f"{len(mask.empty_layers)} of {bench.card.layers} layers"
    return Shrunk(cut_model(bench.model, mask, recovered), count_share(bench.card, mask), words)


def remove_groups(bench: Bench, cut: float, *, recovery: str = "refit") -> Shrunk:
    """Remove the groups that obs-fisher drops."""
    return recover(bench, choose(bench, "obs-fisher", cut), recovery)


def bypass_groups(bench: Bench, cut: float) -> Shrunk:
    """Remove the groups that obs-fisher drops, with bypasses beside the kept ones, whose state counts as cache."""
    card = bench.card
    mask = choose(bench, "obs-fisher", cut)
    removed = recover(bench, mask, "bypass")
    cached = card.count_cached_bytes(mask.unpruned, CONTEXT)
    return replace(removed, bytes=removed.bytes + STATE * card.choose_rank(None) * mask.cut_layers / cached)


def drop_by_cosine(bench: Bench, cut: float) -> Shrunk:
    """Drop the attention layers that change least what enters them."""
    measure = partial(measure_similarity, bench.model, bench.calibration.inputs)
    similarity = bench.evidence.cached("similarity of attention sublayers", measure)
    count = math.ceil(bench.card.layers * cut - EXACT)
    return recover(bench, drop_layers(similarity, count, bench.card.heads), "quick-refit")


def drop_by_fisher(bench: Bench, cut: float) -> Shrunk:
    """Drop the attention layers that fisher-layers drops."""
    return recover(bench, choose(bench, "fisher-layers", cut, min_per_layer=0), "quick-refit")


def stream_removed(bench: Bench, cut: float) -> Shrunk:
    """Let the groups stream that would be removed, as many as it takes."""
    units = bench.card.layers * bench.card.heads
    removed = min(units, math.ceil(units * cut / (1 - (FIRST + LATEST) / CONTEXT) - EXACT))
    # No layer is emptied, so none needs a minimum.
    mask = choose(bench, "obs-fisher", removed / units, min_per_layer=0)
    while count_streaming(bench.card, mask) > 1 - cut + EXACT and removed < units:
        # Groups of layers that cache the latest tokens only save less.
        removed += 1
        mask = choose(bench, "obs-fisher", removed / units, min_per_layer=0)
    share = count_streaming(bench.card, mask)
    return Shrunk(stream_heads(bench.model, mask), share, f"{removed} of {units} groups")


def quantise(bench: Bench, cut: float, *, bits: int) -> Shrunk:
    """Round the cache of the full model."""
    share = count_bits(bits, bench.card.head_size // bench.card.group) / 16
    return Shrunk(quantise_cache(bench.model, bits), share, f"{bits} bits")


def quantise_streams(bench: Bench, cut: float) -> Shrunk:
    """Let groups stream, and round the cache of all to 4 bits."""
    streams = stream_removed(bench, cut)
    share = streams.bytes * count_bits(4, bench.card.head_size // bench.card.group) / 16
    return Shrunk(quantise_cache(streams.model, 4), share, f"4 bits, {streams.words}")


def quantise_rest(bench: Bench, cut: float) -> Shrunk:
    """Remove groups, and round the cache of the rest to 4 bits."""
    removed = remove_groups(bench, cut)
    share = removed.bytes * count_bits(4, bench.card.head_size // bench.card.group) / 16
    return Shrunk(quantise_cache(removed.model, 4), share, f"4 bits, {removed.words}")


@dataclass(frozen=True)
class Peer:
    """A way to shrink the cache: ``make`` it for a bench and a share of the cache that it saves at least.

    One that is not ``calibrated`` does not depend on the calibration texts, and is measured for the first seed alone.
    """

    make: Callable[[Bench, float], Shrunk]
    cuts: tuple[float, ...] = CUTS
    calibrated: bool = True


#: All by name, in the order of tables. A new one is a row here and a label in ``LABELS``.
PEERS: Mapping[str, Peer] = {
    REFERENCE: Peer(remove_groups),
    "groups-bypass": Peer(bypass_groups),
    "groups-quick": Peer(partial(remove_groups, recovery="quick-refit")),
    "layers-cosine": Peer(drop_by_cosine),
    "layers-fisher": Peer(drop_by_fisher),
    "streaming": Peer(stream_removed, (0.5,)),
    "8-bit": Peer(partial(quantise, bits=8), (0.0,), calibrated=False),
    "4-bit": Peer(partial(quantise, bits=4), (0.0,), calibrated=False),
    "3-bit": Peer(partial(quantise, bits=3), (0.0,), calibrated=False),
    "2-bit": Peer(partial(quantise, bits=2), (0.0,), calibrated=False),
    "4-bit-groups": Peer(quantise_rest),
    "4-bit-streaming": Peer(quantise_streams, (0.5,)),
}


# What was measured ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PeerValues:
    """What was measured of a model with one calibration sample.

    ``kl (D,)`` and ``articles (A,)`` are sums of KL divergence over the documents, and over long articles if there are
    any, divided by their mean size, and ``passages (n,)`` and ``random (n,)`` mean losses of second readings. ``speed``
    is None where nothing is faster, or nothing was timed.
    """

    kl: Floats
    articles: Floats
    passages: Floats
    random: Floats
    bytes: float
    weights: int
    words: str
    speed: Throughput | None = None


@dataclass(frozen=True, eq=False)
class PeersMeasured:
    """What was measured: of the ``full`` model, and of each peer by name and cut, one for each of the ``seeds``.

    A peer that does not depend on calibration has one. ``sizes (D,)`` are those of the documents, whose mean is 1,
    ``lengths (A,)`` those of the articles, and ``reasons`` say why this model does not have a peer.
    """

    full: PeerValues
    sizes: Floats
    lengths: Floats
    values: Mapping[tuple[str, float], tuple[PeerValues, ...]]
    seeds: tuple[int, ...]
    reasons: Mapping[str, str]


# The texts ---------------------------------------------------------------------------------------------------------


def take_whole(texts: Texts) -> Texts:
    """The windows of the full length."""
    rows = texts.text_rows
    lengths = [len(item.ids) for item in texts.take(rows).inputs if isinstance(item, Window)]
    return texts.take([row for row, size in zip(rows, lengths, strict=True) if size == max(lengths)])


@dataclass(frozen=True, eq=False)
class PeerTexts:
    """What all read: whole windows of ``news``, and ``repeats``, passages and then random tokens read twice.

    ``articles`` are long texts (None: there are none).
    """

    news: Texts
    repeats: Texts
    articles: Texts | None = None

    @classmethod
    def of(cls, bench: Bench, articles: Texts | None = None) -> PeerTexts:
        """Take whole windows of the evaluation texts of a bench, and of ``articles``, whose rows need no padding.

        Raises:
            OptionError: If the model, or the texts, are too short for passages that are read twice.
        """
        news = take_whole(bench.evaluation)
        if articles is not None:
            articles = take_whole(articles)
        longest = bench.card.longest_context or 2 * PASSAGE + 1
        usual = usual_tokens(bench.card)
        size = min(PASSAGE, (longest - 1) // 2, len(news.stream) // PASSAGES, len(usual))
        if size < 4:
            raise OptionError("the evaluation texts have too few tokens for passages read twice; raise --eval-tokens")
        random = np.random.default_rng(bench.settings.seed)
        places = np.linspace(0, len(news.stream) - size, PASSAGES).astype(np.int64)
        start, _ = start_token(bench.card)
        passages = [news.stream[place : place + size] for place in places]
        drawn = [random.choice(usual, size, replace=False) for _ in range(PASSAGES)]
        windows = [read_twice(start, half, number, "passage") for number, half in enumerate(passages)]
        windows += [read_twice(start, half, PASSAGES + number, "random") for number, half in enumerate(drawn)]
        # The first token of a second reading is not scored, since nothing before it tells that it begins.
        windows = [replace(window, units=window.units[1:], sizes=window.sizes[1:]) for window in windows]
        labels = np.full(len(windows), NO_LABEL, dtype=np.int64)
        return cls(news, Texts(tuple(windows), None, labels, news.classes, NEXT_TOKEN), articles)


def open_benches(
    settings: Settings, seeds: Sequence[int], *, store: Store | None = None, progress: Progress = silent
) -> dict[int, Bench]:
    """Open a bench for the calibration sample of each seed; evaluation texts, model and answers are the first's.

    Raises:
        OptionError: If the model is no causal language model with a cache, measured on next tokens.
    """
    store = store or Store()
    first = open_bench(replace(settings, seed=seeds[0]), store=store, progress=progress)
    card = first.card
    if not card.task.predicts_often or card.saves != "cache":
        raise OptionError(f"{card.id} is no causal language model with a cache of keys and values; name one")
    opened = partial(open_bench, store=store, card=card, dataset=load_data(first.settings, card), progress=progress)
    benches = {seeds[0]: first}
    for seed in seeds[1:]:
        bench = opened(replace(settings, seed=seed), load=lambda _, **__: first.model)
        benches[seed] = replace(bench, measurements=first.measurements, evaluation=first.evaluation)
    return benches
