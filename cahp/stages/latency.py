"""Savings of pruning: operations, and times measured on the model that was cut."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from cahp.models.caching import decode_step, fill_cache
from cahp.models.cards import CONTEXTS, LATENCY_SECONDS, GenerationSpeed, Throughput, Timing
from cahp.models.devices import free_bytes, synchronise
from cahp.models.head_model import Batch, HeadModel
from cahp.models.surgery import cut
from cahp.values import Estimate, Floats, JsonObject, Progress, silent
from cahp.values.statistics import half_interval
from cahp.words import size_of

STAGE = "latency"
#: What is timed.
Run = Callable[[], object]
#: Returns the time in seconds.
Clock = Callable[[], float]
#: A ratio is precise if its 95 % interval is narrower than this share of it.
PRECISE = 0.02
_WARMUP = 3
_BATCH = 8
#: Smallest number of rounds, and number of rounds before the first check of precision.
_FEWEST = 3
_FIRST_LOOK = 5
#: Shares of the time for the warm-up, and for the measurement of attention's share.
_WARMING = 0.1
_SHARING = 0.2
_NO_TIME = "more than the time left"
#: While a step runs, there are three caches at most, which may take this share of the free memory.
_CACHES = 3
_MEMORY = 0.5
_DRAWS = 2_000
#: Smallest number of rounds for a bootstrap.
_ENOUGH_TO_DRAW = 10


@dataclass(frozen=True)
class Times:
    """Times of the full and the pruned model, their ratio (below 1: faster), and attention's share of the full time."""

    full: Timing
    pruned: Timing
    ratio: Estimate
    attention_share: float = math.nan


def sample_batch(model: HeadModel, *, batch: int, length: int) -> Batch:
    """``batch`` inputs of ``length`` random tokens without padding; time does not depend on the tokens."""
    config = model.network.config
    pad = model.tokenizer.pad_token_id
    ids = np.random.default_rng(0).integers(config.vocab_size, size=(batch, length))
    if pad is not None:
        # Padding tokens inside would shift positions in families that count them from the padding index.
        ids[ids == pad] = (pad + 1) % config.vocab_size
    if getattr(config, "is_encoder_decoder", False):
        # These classifiers need a token that ends the text.
        ids[ids == config.eos_token_id] = (config.eos_token_id + 2) % config.vocab_size
        ids[:, -1] = config.eos_token_id
    same = {"attention_mask": [1] * length}
    if "token_type_ids" in model.tokenizer.model_input_names:
        same["token_type_ids"] = [0] * length
    (made,) = model.batches([{"input_ids": row, **same} for row in ids.tolist()], size=batch * length)
    return made


def measure(
    full: HeadModel,
    pruned: HeadModel,
    *,
    contexts: Sequence[int] = (64,),
    batch: int = _BATCH,
    seconds: float = LATENCY_SECONDS,
    repeats: int | None = None,
    progress: Progress = silent,
    clock: Clock = perf_counter,
) -> tuple[Times, GenerationSpeed]:
    """Time both models in turn, so that a slower machine slows both, on ``batch`` texts of as many tokens as contexts.

    The ratio is the median over rounds of pruned / full, with the interval of ``ratio``. Rounds end when that interval
    is narrower than 2 % of the ratio, or when their share of ``seconds`` is over, including the warm-up (but not before
    three rounds). ``repeats`` sets the number of rounds instead. Since rounds end when the interval is narrow, it is a
    little too narrow: it contained the true ratio of simulated timings in 89 to 95 %. ``pruned`` is a model whose heads
    were cut out (a masked model computes all its heads and saves nothing).

    A prefill is a forward pass of ``batch`` contexts. Of models with a cache decode steps are timed, too: one
    computes the last token of a context, with a cache of random keys and values of the others. All have equal shares of
    the time, after what attention's share takes.

    The prefill of the shortest context is timed in three rounds at least; its times are returned as well. Longer ones
    follow only if three rounds of them are expected to fit in what is left of the time, decode steps only if their
    caches fit in memory. After that time no further pass begins.
    """
    start = clock()
    end = start + seconds * (1 - _SHARING)
    first, *longer = sorted(set(contexts))
    every = full.card.full_mask
    waiting = [("prefill", first)]
    if full.card.count_cached_bytes(every, first):
        waiting = [("decode", first), *waiting]
        waiting += product(("decode", "prefill"), longer)

    def report() -> None:
        progress(STAGE, min(99, int(100 * (clock() - start) / seconds)), 100)

    speeds: dict[str, list[Throughput]] = {"prefill": [], "decode": []}
    left_out = []
    free = free_bytes(full.device)
    times: Times | None = None
    #: Seconds for each token of a prefill by both models, in all rounds with a warm-up.
    token = 0.0
    for index, (kind, context) in enumerate(waiting):
        left = end - clock()
        last = end
        tokens = batch
        reason = ""
        if kind == "decode":
            memory = _CACHES * batch * full.card.count_cached_bytes(every, context)
            if free is not None and memory > _MEMORY * free:
                reason = f"{size_of(memory)} of memory"
        else:
            tokens = batch * context
            if times is None:
                last = math.inf
            elif token * context > left:
                reason = _NO_TIME
        if not reason:
            if kind == "decode":
                runs = [_decoding(model, context, batch) for model in (full, pruned)]
            else:
                inputs = sample_batch(full, batch=batch, length=context)
                runs = [partial(model.logits, inputs) for model in (full, pruned)]
            measured = _in_turn(full.device, runs, repeats, left / (len(waiting) - index), report, clock, last=last)
            if len(measured) < _FEWEST:
                reason = _NO_TIME
        if reason:
            left_out.append(f"{kind} at {context:,} tokens ({reason})")
            continue
        summary = _summarise(measured, batch, context)
        if kind == "prefill" and times is None:
            times = summary
            token = 2 * ((repeats or _FEWEST) + 1) * summary.full.median / 1e3 / first
        ms = 1e3 * tokens
        speeds[kind].append(Throughput(context, ms / summary.full.median, ms / summary.pruned.median, summary.ratio))
    assert times is not None
    share = attention_share(full, sample_batch(full, batch=batch, length=first), seconds=_SHARING * seconds)
    progress(STAGE, 100, 100)
    speed = GenerationSpeed(tuple(speeds["prefill"]), tuple(speeds["decode"]), tuple(left_out), batch)
    return replace(times, attention_share=share), speed


def _decoding(model: HeadModel, context: int, batch: int) -> Run:
    """A step that computes the last token of a context."""
    tokens = sample_batch(model, batch=batch, length=2).tensors["input_ids"][:, :1]
    return partial(decode_step, model, tokens, fill_cache(model, tokens, context=max(1, context - 1)))


def measure_onnx(full: HeadModel, files: Sequence[Path], *, seconds: float) -> list[Times]:
    """Time a batch of ONNX ``files`` in turn, as ``measure`` does; return the times of each file against the first.

    The first is that of the ``full`` model. They run in onnxruntime with as many threads as torch.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Otherwise threads of idle sessions would spin on the cores of the running one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    length = min(CONTEXTS[0], full.max_length)
    batch = sample_batch(full, batch=_BATCH, length=length)
    runs: list[Run] = []
    for path in files:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        inputs: JsonObject = {}
        for entry in session.get_inputs():
            if entry.name in batch.tensors:
                inputs[entry.name] = batch.tensors[entry.name].cpu().numpy()
            else:
                # An empty cache.
                inputs[entry.name] = np.zeros((_BATCH, entry.shape[1], 0, entry.shape[3]), dtype=np.float32)
        runs.append(partial(session.run, None, inputs))
    times = _in_turn(full.device, runs, None, seconds, lambda: None, perf_counter)
    return [_summarise(times[:, [0, column]], _BATCH, length) for column in range(1, len(files))]


def _in_turn(
    device: torch.device,
    runs: Sequence[Run],
    repeats: int | None,
    seconds: float,
    report: Callable[[], None],
    clock: Clock,
    *,
    last: float = math.inf,
) -> Floats:
    """Seconds ``(rounds, len(runs))`` of each run, after a warm-up; none begins after the time ``last``.

    ``report`` is called before each round.
    """
    start = clock()
    # Where no time is left, the fewest rounds are enough.
    seconds = max(seconds, 1e-3)
    for run in runs:
        for _ in range(_WARMUP):
            if clock() >= last:
                break
            _timed(device, run, clock)
            # A large model is warm after one run.
            if repeats is None and clock() - start > _WARMING * seconds:
                break
    times: list[list[float]] = []
    look = _FIRST_LOOK
    while True:
        spent = (clock() - start) / seconds
        if repeats is not None:
            spent = len(times) / repeats
        report()
        if len(times) >= (repeats or _FEWEST) and spent >= 1:
            break
        if repeats is None and len(times) == look:
            first, *others = np.array(times).T
            ratios = [ratio(column / first) for column in others]
            if all(estimate.high - estimate.low < PRECISE * estimate.value for estimate in ratios):
                break
            # A check after every round would find a narrow interval by chance.
            look = math.ceil(1.25 * look)
        taken = [0.0] * len(runs)
        columns = list(range(len(runs)))
        # The order alternates, since the later model finds warmer caches.
        if len(times) % 2 == 0:
            columns.reverse()
        for column in columns:
            if clock() >= last:
                return np.array(times)
            taken[column] = _timed(device, runs[column], clock)
        times.append(taken)
    return np.array(times)


def _summarise(times: Floats, batch: int, length: int) -> Times:
    full, pruned = (
        Timing(1e3 * float(np.median(column)), 1e3 * float(np.percentile(column, 95)), batch, length, len(column))
        for column in times.T
    )
    return Times(full, pruned, ratio(times[:, 1] / times[:, 0]))


def ratio(values: Floats) -> Estimate:
    """Median of paired ratios with a 95 % interval: a bootstrap over the pairs, or Student's for fewer than ten.

    A bootstrap of three pairs stays within their range, which contains the median in only three of four cases;
    Student's interval, of the logarithms, is wide enough.
    """
    middle = float(np.median(values))
    if len(values) < _ENOUGH_TO_DRAW:
        logs = np.log(values)
        reach = float(half_interval(logs))
        centre = float(logs.mean())
        low = min(middle, np.exp(centre - reach))
        high = max(middle, np.exp(centre + reach))
    else:
        draws = np.random.default_rng(0).choice(values, size=(_DRAWS, len(values)))
        low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return Estimate(middle, (float(low), float(high)), len(values), "ratio")


def _timed(device: torch.device, run: Run, clock: Clock) -> float:
    synchronise(device)
    start = clock()
    run()
    synchronise(device)
    return clock() - start


def attention_share(model: HeadModel, inputs: Batch, *, seconds: float) -> float:
    """Share of the time of a forward pass between the query, key, value projections and the output projection.

    The median of five passes, or of those that fit into ``seconds`` (at least one), of a warm model. It is the upper
    bound of what the removal of heads can save (Amdahl's law).
    """
    # On a copy that shares the weights, since the model may be in use.
    copy = cut(model, model.card.full_mask)
    started = 0.0
    inside = 0.0

    def enter(*_: Any) -> None:
        nonlocal started
        synchronise(model.device)
        started = perf_counter()

    def leave(*_: Any) -> None:
        nonlocal inside
        synchronise(model.device)
        inside += perf_counter() - started

    for layer in copy.layer_modules:
        layer.get_submodule(copy.family.attention).register_forward_pre_hook(enter)
        layer.get_submodule(copy.family.output).register_forward_hook(leave)
    shares: list[float] = []
    start = perf_counter()
    while len(shares) < 5 and (not shares or perf_counter() - start < seconds):
        inside = 0.0
        whole = _timed(copy.device, partial(copy.logits, inputs), perf_counter)
        shares.append(inside / whole)
    return float(np.median(shares))


def flops(model: HeadModel, *, length: int) -> int:
    """Floating-point operations of one text of ``length`` tokens, counted while it runs."""
    inputs = sample_batch(model, batch=1, length=length)
    with FlopCounterMode(display=False) as counter:
        # With a probe, attention is computed by matrix products, which are counted; fused kernels are not always.
        model.logits(inputs, probe=lambda layer, weights: None)
    return int(counter.get_total_flops())
