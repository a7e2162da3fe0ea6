"""Measure the peers on the same evaluation texts: KL divergence, what is read twice, bytes, weights and speed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from cahp.features.peers.table import CONTEXT, PEERS, Peer, PeerBench, Shrunk
from cahp.models.costs import Throughput
from cahp.run.bench import Bench, open_bench
from cahp.run.measurements import timed_on
from cahp.run.settings import Settings
from cahp.run.texts import load_data
from cahp.store import Entry, Store, digest_code, key
from cahp.tasks import NEXT_TOKEN
from cahp.tasks.answers import NO_LABEL, TokenEvaluation, sum_by_unit
from cahp.tasks.texts import Texts
from cahp.tasks.window import Window
from cahp.values import BudgetError, MaskError, ModelError, OptionError, Progress, silent

STAGE = "peers"
#: Tokens of a passage that is read twice, longer than what streaming heads see, and the number of each kind.
PASSAGE = 96
PASSAGES = 8
#: Seconds for timing a peer.
SECONDS = 15.0
#: The modules whose code the results depend on.
_CODE = (
    *(
        "cahp.stages.recovery",
        "cahp.stages.one_shot",
        "cahp.stages.replacement",
        "cahp.features.peers.table",
        "cahp.features.peers.merging",
    ),
    *("cahp.features.peers.quantising", "cahp.features.peers.streaming", "cahp.features.peers.dropping"),
)


@dataclass(frozen=True, eq=False)
class PeerTexts:
    """What all peers read: whole windows of ``news``, and ``repeats``, passages and then random tokens read twice."""

    news: Texts
    repeats: Texts

    @classmethod
    def of(cls, bench: Bench) -> PeerTexts:
        """Take whole windows of the evaluation texts of a bench, whose rows need no padding.

        Raises:
            OptionError: If the model, or the texts, are too short for passages that are read twice.
        """
        from cahp.models.windows import read_twice, start_token, usual_tokens

        rows = bench.evaluation.text_rows
        lengths = [len(item.ids) for item in bench.evaluation.take(rows).inputs if isinstance(item, Window)]
        news = bench.evaluation.take([row for row, size in zip(rows, lengths, strict=True) if size == max(lengths)])
        longest = bench.card.longest_context or 2 * PASSAGE + 1
        size = min(PASSAGE, (longest - 1) // 2, len(news.stream) // PASSAGES)
        usual = usual_tokens(bench.card)
        size = min(size, len(usual))
        if size < 4:
            raise OptionError("the evaluation texts have too few tokens for passages read twice; raise --eval-tokens")
        random = np.random.default_rng(bench.settings.seed)
        places = np.linspace(0, len(news.stream) - size, PASSAGES).astype(np.int64)
        start, _ = start_token(bench.card)
        passages = [news.stream[place : place + size] for place in places]
        drawn = [random.choice(usual, size, replace=False) for _ in range(PASSAGES)]
        read = partial(read_twice, start, skipped=1)
        windows = [read(half, number, "passage") for number, half in enumerate(passages)]
        windows += [read(half, PASSAGES + number, "random") for number, half in enumerate(drawn)]
        labels = np.full(len(windows), NO_LABEL, dtype=np.int64)
        return cls(news, Texts(tuple(windows), None, labels, news.classes, NEXT_TOKEN))


@dataclass(frozen=True, eq=False)
class PeerValues:
    """What was measured of a peer with one calibration sample.

    ``kl (D,)`` are sums of KL divergence over the documents, divided by their mean size, and ``passages (n,)`` and
    ``random (n,)`` mean losses of second readings. ``bytes`` is the share of the cache that is left, ``weights`` the
    number of weights, and ``words`` what was done. ``speed`` is None where nothing is faster, or nothing was timed.
    """

    kl: NDArray[np.float64]
    passages: NDArray[np.float64]
    random: NDArray[np.float64]
    bytes: float
    weights: int
    words: str
    speed: Throughput | None = None


@dataclass(frozen=True, eq=False)
class PeersMeasured:
    """What was measured: of the ``full`` model, and of each peer by name and cut, one for each of the ``seeds``.

    A peer that does not depend on calibration has one. ``sizes (D,)`` are those of the documents, whose mean is 1, and
    ``reasons`` say why this model does not have a peer.
    """

    full: PeerValues
    sizes: NDArray[np.float64]
    values: Mapping[tuple[str, float], tuple[PeerValues, ...]]
    seeds: tuple[int, ...]
    reasons: Mapping[str, str]


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
        raise OptionError(
            f"peers shrink the cache of keys and values, and {card.id} is no causal language model that is measured on "
            "next tokens; name one with --model, without --prompt and --answers"
        )
    raw = load_data(first.settings, card)
    benches = {seeds[0]: first}
    for seed in seeds[1:]:
        benches[seed] = replace(
            open_bench(
                replace(settings, seed=seed),
                store=store,
                card=card,
                dataset=raw,
                load=lambda _, **__: first.model,
                progress=progress,
            ),
            measurements=first.measurements,
            evaluation=first.evaluation,
        )
    return benches


def measure_peers(
    benches: Mapping[int, Bench], *, names: Collection[str] = tuple(PEERS), timed: bool = True
) -> PeersMeasured:
    """Measure peers on the calibration sample of each bench, by its seed; each is stored, so this resumes.

    Where it is ``timed``, peers that are faster are timed with the first sample.
    """
    seeds = tuple(benches)
    first = benches[seeds[0]]
    texts = PeerTexts.of(first)
    values: dict[tuple[str, float], tuple[PeerValues, ...]] = {}
    reasons: dict[str, str] = {}
    plan = [(seed, peer, cut) for seed in seeds for peer in PEERS.values() for cut in peer.cuts if peer.name in names]
    plan = [row for row in plan if row[1].calibrated or row[0] == seeds[0]]
    measuring = {seed: _Measuring(bench, texts) for seed, bench in benches.items()}
    for done, (seed, peer, cut) in enumerate(plan):
        first.evidence.progress(STAGE, done, len(plan))
        if peer.name in reasons:
            continue
        try:
            measured = measuring[seed].measure(peer, cut, timed=timed and seed == seeds[0] and not peer.simulated)
        except (ModelError, MaskError, BudgetError) as error:
            reasons[peer.name] = str(error)
        else:
            values[peer.name, cut] = (*values.get((peer.name, cut), ()), measured)
    whole = measuring[seeds[0]]
    return PeersMeasured(whole.measure_full(), whole.sizes, values, seeds, reasons)


class _Measuring:
    """Measures peers of one calibration sample on the texts of all."""

    def __init__(self, bench: Bench, texts: PeerTexts) -> None:
        self._bench = bench
        self._peers = PeerBench(bench)
        self._texts = texts

    @property
    def _full(self) -> TokenEvaluation:
        full = self._bench.measurements.evaluate(self._texts.news)
        assert isinstance(full, TokenEvaluation)
        return full

    @property
    def sizes(self) -> NDArray[np.float64]:
        """The sizes ``(D,)`` of the documents, whose mean is 1."""
        units = self._full.units
        return sum_by_unit(np.zeros((0, len(units))), units, np.ones(len(units)))[1]

    def measure_full(self) -> PeerValues:
        """The values of the full model."""
        return self._measure("full", (), lambda: Shrunk(self._bench.model, 1.0, "all groups"))

    def measure(self, peer: Peer, cut: float, *, timed: bool) -> PeerValues:
        """The values of a peer that saves at least the share ``cut`` of the cache."""
        bench = self._bench
        identity: tuple[object, ...] = (round(cut, 6), digest_code(_CODE))
        if peer.calibrated:
            identity += (bench.calibration.sha256, bench.settings.seed)
        make = cache(lambda: peer.make(self._peers, cut))
        values = self._measure(peer.name, identity, make)
        if timed:
            values = replace(values, speed=self._time(peer.name, identity, make))
        return values

    def _measure(self, name: str, identity: tuple[object, ...], make: Callable[[], Shrunk]) -> PeerValues:
        bench = self._bench
        digests = (bench.card.sha256, self._texts.news.sha256, self._texts.repeats.sha256)
        entry = key("peer", 3, *digests, bench.resources.precisions.evaluation, name, *identity)
        stored = bench.resources.load_cached(STAGE, entry, _read_values)
        if stored is not None:
            return stored
        made = make()
        news = bench.measurements.evaluate_model(made.model, self._texts.news)
        repeats = bench.measurements.evaluate_model(made.model, self._texts.repeats)
        assert isinstance(news, TokenEvaluation)
        assert isinstance(repeats, TokenEvaluation)
        (divergences,), _ = sum_by_unit(news.divergences(self._full)[None], news.units, np.ones(len(news.units)))
        losses, items = repeats.copying
        passages, random = np.split(np.bincount(items, losses) / np.bincount(items), 2)
        values = PeerValues(divergences, passages, random, made.bytes, made.model.parameters, made.words)
        meta = {"bytes": values.bytes, "weights": values.weights, "words": values.words}
        bench.resources.keep(entry, {"kl": values.kl, "passages": passages, "random": random}, meta)
        return values

    def _time(self, name: str, identity: tuple[object, ...], make: Callable[[], Shrunk]) -> Throughput:
        """Tokens per second of a peer, in turn with the full model."""
        resources = self._bench.resources
        bench = self._bench
        context = min(CONTEXT, bench.card.longest_context or CONTEXT)
        circumstances = (*timed_on(resources.device), bench.settings.dtype)
        entry = key("peer speed", 3, bench.card.sha256, name, *identity, context, SECONDS, *circumstances)
        stored = resources.load_cached("latency", entry, lambda found: msgspec.convert(found.meta, Throughput))
        if stored is None:
            from cahp.stages.latency import measure_decoding

            full = bench.model
            stored = measure_decoding(full, make().model, context=context, seconds=SECONDS, progress=resources.progress)
            if not resources.lacks_room:
                resources.keep(entry, {}, asdict(stored))
        return stored


def _read_values(entry: Entry) -> PeerValues:
    kl, passages, random = (entry.arrays[name].astype(np.float64) for name in ("kl", "passages", "random"))
    return PeerValues(kl, passages, random, entry.meta["bytes"], entry.meta["weights"], entry.meta["words"])
