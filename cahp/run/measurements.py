"""Measurements of masked and cut models: answers, cost and proof, each under a key of all it depends on."""

from __future__ import annotations

import os
import timeit
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from cahp.models.cards import CONTEXTS, LATENCY_SECONDS, Cost, Costs, ModelCard
from cahp.outcomes import Outcomes, measure
from cahp.run.recoveries import Recovered, cut_model
from cahp.run.resources import Resources
from cahp.stages.evaluation import SharedLayers
from cahp.store import Store, key
from cahp.tasks.answers import Evaluation, PartListener
from cahp.tasks.texts import Item, Texts
from cahp.values import HeadMask, OptionError

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel
    from cahp.models.reading import Reader
    from cahp.stages.anatomy import Dissection


#: Sets of windows for which the full model's answers are kept in memory.
_READERS = 3
#: Texts in a timed batch, and their tokens.
_BATCH = 8
_LENGTH = 64


class Measurements:
    """What masks do to one model: its answers, its cost, and the proof that masked and cut models agree.

    Every result is read from the store if it was measured before.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self.card = resources.card
        self._precision = resources.precisions.evaluation
        self._full: dict[str, Evaluation] = {}
        self._readers: dict[str, Reader] = {}

    def evaluate(
        self,
        texts: Texts,
        *,
        mask: HeadMask | None = None,
        recovered: Recovered | None = None,
        shared: SharedLayers | None = None,
        on_part: PartListener | None = None,
    ) -> Evaluation:
        """Evaluate the full model, the masked one, or a recovered pruned one on ``texts``.

        ``shared`` has what this mask has in common with others that are evaluated on the same texts, after the same
        recovery. ``on_part`` receives the answers so far while the texts are evaluated.
        """
        if mask is not None and mask.is_full and recovered is None:
            # The self-test has proven that a mask which drops nothing is the full model.
            mask = None
        digests = (self.card.sha256, texts.sha256, mask and mask.sha256, recovered and recovered.sha256)
        name = key("evaluation", texts.task.name, texts.task.revision, *digests, self._precision)
        # The full model's evaluation is used often, also where the store keeps nothing.
        if name in self._full:
            return self._full[name]
        store = self._resources.store
        if store.holds(name):
            # Bundled windows are cut when they are read: what fails there says nothing about the stored evaluation.
            _ = texts.first
        evaluation = self._resources.load_cached(
            "evaluation", name, lambda entry: texts.evaluation_of(entry.arrays["scores"])
        )
        if evaluation is None:
            before = self._resources.timings.get("evaluation", 0.0)
            model = self.model
            gated = mask
            if mask is not None and (recovered is not None or not mask.empty_layers):
                model = cut_model(model, mask, recovered)
                gated = None
            if shared is None or mask is None or mask.empty_layers:
                evaluation = self.evaluate_model(model, texts, mask=gated, on_part=on_part)
            else:
                reader = self.reader(texts)
                with self._resources.timed("evaluation"):
                    evaluation = shared.evaluate(mask, model, texts, reader=reader, progress=self._resources.progress)
            if mask is None:
                seconds = self._resources.timings["evaluation"] - before
                record_pace(store, self.card, tokens=texts.tokens, seconds=seconds)
            self._resources.keep(name, {"scores": evaluation.scores})
        if mask is None:
            self._full[name] = evaluation
        return evaluation

    def outcomes(
        self, texts: Texts, mask: HeadMask | None, *, recovered: Recovered | None = None, seed: int = 42
    ) -> dict[str, Outcomes]:
        """Measure the outcomes of the full model, of the pruned one under ``mask``, and of the ``recovered`` one.

        Models that are not given are left out. ``seed`` draws the bootstrap. Without labels, the full model has only
        the outcomes of its comparison with itself.
        """
        full = self.evaluate(texts)
        outcomes: dict[str, Outcomes] = {}
        if full.labelled:
            outcomes["full"] = measure(full, seed=seed)
        else:
            outcomes["full"] = measure(full, full=full, seed=seed)
        if mask is not None:
            outcomes["pruned"] = measure(self.evaluate(texts, mask=mask), full=full, seed=seed)
        if recovered is not None:
            answers = self.evaluate(texts, mask=mask, recovered=recovered)
            outcomes["recovered"] = measure(answers, full=full, seed=seed)
        return outcomes

    def evaluate_model(
        self, model: HeadModel, texts: Texts, *, mask: HeadMask | None = None, on_part: PartListener | None = None
    ) -> Evaluation:
        """Evaluate any model now; the result is not stored."""
        from cahp.stages.evaluation import evaluate

        reader = self.reader(texts)
        with self._resources.timed("evaluation"):
            return evaluate(model, texts, mask=mask, on_part=on_part, reader=reader, progress=self._resources.progress)

    def reader(self, texts: Texts) -> Reader:
        """Return what reads answers to ``texts``, and compares them with the full model's where the task says so."""
        from cahp.models.reading import Reader

        if texts.sha256 not in self._readers:
            # It holds states of the full model, so only those of the latest texts stay; the store keeps none, since a
            # text can be read from them.
            kept = list(self._readers.items())[1 - _READERS :]
            self._readers = {**dict(kept), texts.sha256: Reader(texts, full=self.model, precision=self._precision)}
        return self._readers[texts.sha256]

    def prepare(self, texts: Texts) -> None:
        """Compute what evaluations compare with while they read, so that their time does not contain it."""
        self.reader(texts).prepare(progress=self._resources.progress)

    def dissect(self, inputs: Sequence[Item], held_out: Texts) -> Dissection:
        """Take the output of each head apart on ``inputs``, and remove each head on ``held_out`` texts."""
        from cahp.stages.anatomy import dissect

        return dissect(self.model, inputs, held_out, precision=self._precision, progress=self._resources.progress)

    @property
    def model(self) -> HeadModel:
        """The full model, loaded on first use."""
        return self._resources.model

    def continue_text(
        self, prompt: str, count: int, *, mask: HeadMask | None = None, recovered: Recovered | None = None
    ) -> list[int]:
        """Return the ``count`` most probable tokens after a ``prompt``, one after the other, by a language model."""
        from cahp.models.caching import continue_greedily
        from cahp.models.windows import start_token

        model = self.model
        ids = model.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        tokens = [start_token(self.card)[0], *ids]
        if recovered is not None and mask is not None:
            model = cut_model(model, mask, recovered)
            mask = None
        return list(continue_greedily(model, tokens, count, gates=model.gates_of(mask)))

    def can_cut(self, mask: HeadMask) -> bool:
        """Return whether the heads that ``mask`` drops can be cut out; see ``cahp.models.surgery.can_cut``."""
        if not mask.empty_layers:
            return True
        from cahp.models.surgery import can_cut

        return can_cut(self._resources.model, mask)

    def difference(self, mask: HeadMask, texts: Texts) -> float:
        """Return the largest difference between the logits of the masked and the cut model on a few texts.

        Raises:
            SelfTestError: If the difference is larger than the self-test allows.
        """
        from cahp.models.selftest import compare_masked_and_cut

        model = self._resources.model
        tokens = model.tokenize(texts.inputs[: texts.task.compared])
        return compare_masked_and_cut(model, mask, model.batches(tokens))

    def costs(
        self,
        mask: HeadMask,
        recovered: Recovered | None = None,
        *,
        batch: int | None = None,
        length: int | None = None,
        seconds: float = LATENCY_SECONDS,
        repeats: int | None = None,
        fresh: bool = False,
    ) -> Costs:
        """Measure weights, operations and time of the full and the cut model; see ``cahp.stages.latency.measure``.

        They depend on the number of heads in each layer, not on which heads, and on bypasses of the ``recovered`` model
        (None: as pruned). A batch is by default 8 texts of 64 tokens. Of a causal language model, the speed of
        generation is measured in contexts of ``length`` tokens, by default several (``cahp.models.cards.CONTEXTS``),
        for a text at a time. ``fresh`` ignores a stored result. A result of a busy machine is returned but not stored.

        Raises:
            OptionError: If the model does not take texts of ``length`` tokens.
        """
        contexts = [_LENGTH]
        size = batch or _BATCH
        writes = self.card.saves == "cache"
        if writes:
            longest = self.card.longest_context or max(CONTEXTS)
            contexts = sorted({min(context, longest) for context in CONTEXTS})
            size = batch or 1
        if length is not None:
            contexts = [length]
        # Weights that are converted at each use take time.
        where = (*timed_on(self._resources.device), self.card.dtype)
        sizes: list[object] = [mask.counts]
        if recovered is not None and recovered.bypasses:
            sizes += sorted([name, array.shape] for name, array in recovered.bypasses.items())
        else:
            recovered = None
        name = key("costs", 7, self.card.sha256, *sizes, size, contexts, seconds, repeats, *where)
        if not fresh:
            stored = self._resources.load_cached("latency", name, lambda entry: msgspec.convert(entry.meta, Costs))
            if stored is not None:
                return stored
        from cahp.stages import latency

        full = self.model
        longest = full.longest_context
        shortest = contexts[0]
        if shortest > longest:
            raise OptionError(f"{self.card.id} takes at most {longest:,} tokens, not {shortest:,}; lower --length")
        pruned = cut_model(full, mask, recovered)
        with self._resources.timed("latency"):
            times, generation = latency.measure(
                full,
                pruned,
                contexts=contexts,
                batch=size,
                seconds=seconds,
                repeats=repeats,
                progress=self._resources.progress,
            )
            speed = None
            if writes:
                speed = generation
            costs = Costs(
                Cost(full.parameters, latency.flops(full, length=shortest), times.full),
                Cost(pruned.parameters, latency.flops(pruned, length=shortest), times.pruned),
                times.ratio,
                times.attention_share,
                speed,
            )
        if not costs.noisy and not full.lacks_room:
            self._resources.keep(name, {}, asdict(costs))
        return costs


#: The version of a package, found once: pages ask for it.
_version = cache(version)


def count_cores() -> int:
    """Count the processor's cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def timed_on(device: str) -> tuple[str | int | None, ...]:
    """Return what timings on a device of this name depend on, as far as it is known without loading PyTorch."""
    import platform

    variables = (os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES"))
    return device, platform.node(), _version("torch"), count_cores(), *variables


# The pace at which a model reads on this machine ---------------------------------------------------------------


#: Fewer tokens tell no pace.
_FEWEST_TOKENS = 1000
#: Rows and columns of the multiplied matrices.
_SIDE = 1536


def record_pace(store: Store, card: ModelCard, *, tokens: float, seconds: float) -> None:
    """Keep the pace at which a model has just read ``tokens`` in ``seconds``."""
    if tokens >= _FEWEST_TOKENS and seconds > 0 and card.sha256:
        store.save(key("pace", 1, card.sha256), meta={"seconds_per_token": seconds / tokens})


def operations(card: ModelCard) -> float:
    """Estimate the floating-point operations per token: two for each weight that it is multiplied with."""
    details = card.details
    # Of a bundled language model only the number of all weights is known: its head has those of its embeddings.
    return 2 * float(details.get("multiplied") or details["parameters"])


def estimate_seconds(card: ModelCard, *, tokens: float) -> float:
    """Estimate the seconds of forward passes of ``tokens`` tokens on this machine.

    Where the model was not evaluated here, operations are counted from the configuration, and the speed is that of a
    matrix product.

    Raises:
        ModelError: If the configuration describes no network.
    """
    pace = Store().read(key("pace", 1, card.sha256), lambda entry: float(entry.meta["seconds_per_token"]))
    if pace is None:
        pace = operations(card) / _speed()
    return tokens * pace


@cache
def _speed() -> float:
    """Floating-point operations per second of a float32 matrix product, measured once per process in 0.3 s."""
    matrix = np.ones((_SIDE, _SIDE), dtype=np.float32)
    matrix @ matrix
    # The machine may be busy with other work: the best of several counts, and smaller matrices would suffer more.
    best = min(timeit.repeat(lambda: matrix @ matrix, repeat=4, number=1))
    # Attention, normalisation and activations are slower: 0.65 of that speed was measured.
    return 0.65 * 2 * _SIDE**3 / best
