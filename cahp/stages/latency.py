"""Savings of pruning: operations, and times measured on the model that was cut."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from cahp.models.caching import decode_step, fill_cache
from cahp.models.costs import CONTEXTS, LATENCY_SECONDS, GenerationSpeed, Throughput, Timing
from cahp.models.devices import free_bytes, synchronise
from cahp.models.head_model import Batch, HeadModel
from cahp.models.surgery import cut
from cahp.values import Estimate, HeadMask, Progress, silent
from cahp.words import duration, size_of

STAGE = "latency"
#: A ratio is precise if its 95 % interval is narrower than this share of it.
PRECISE = 0.02
_WARMUP, _BATCH = 3, 8
#: Smallest number of rounds, and number of rounds before the first check of precision.
_FEWEST, _FIRST_LOOK = 3, 5
#: Shares of the time for the warm-up, and for the measurement of attention's share.
_WARMING, _SHARING = 0.1, 0.2
#: Shares of the time of generation for decode and prefill at the shortest context.
_DECODE, _PREFILL = 0.3, 0.4
#: Caches are filled in memory of which they may take this share; while a step runs, there are three of them at most.
_CACHES, _MEMORY = 3, 0.5
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
    config, pad = model.network.config, model.tokenizer.pad_token_id
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
    batch: int = _BATCH,
    length: int = 64,
    seconds: float = LATENCY_SECONDS,
    repeats: int | None = None,
    progress: Progress = silent,
    clock: Callable[[], float] = perf_counter,
) -> Times:
    """Time both models in turn, so that a slower machine slows both, until their ratio is precise.

    The ratio is the median over rounds of pruned / full, with the interval of ``ratio``. Rounds end when that interval
    is narrower than 2 % of the ratio, or after ``seconds``, including the warm-up and attention's share (but not before
    three rounds). ``repeats`` sets the number of rounds instead. Since rounds end when the interval is narrow, it is a
    little too narrow: it contained the true ratio of simulated timings in 89 to 95 %. ``pruned`` is a model whose heads
    were cut out (a masked model computes all its heads and saves nothing).
    """
    inputs = sample_batch(full, batch=batch, length=length)
    calls = [partial(_timed, full.device, partial(model.logits, inputs), clock) for model in (full, pruned)]
    times = _in_turn(calls, repeats, seconds * (1 - _SHARING), progress, clock)
    share = attention_share(full, inputs, seconds=None if repeats is not None else seconds * _SHARING)
    return replace(_summarise(times, batch, length), attention_share=share)


def measure_generation(
    full: HeadModel,
    pruned: HeadModel,
    *,
    contexts: Sequence[int] = CONTEXTS,
    batch: int = 1,
    seconds: float = LATENCY_SECONDS,
    repeats: int | None = None,
    progress: Progress = silent,
    clock: Callable[[], float] = perf_counter,
) -> tuple[Times, GenerationSpeed]:
    """Time how two causal language models read ``contexts`` of so many tokens, and write the next token.

    A prefill is a forward pass of ``batch`` contexts. A decode step computes the last token of a context, with a cache
    of random keys and values of the others. Both models run in turn, as in ``measure``.

    At the shortest context, decode and prefill are timed first, the prefill in three rounds at least; its times are
    returned as well. Longer contexts follow, each only if three rounds of it are expected to fit in what is left of
    ``seconds``, and its cache in memory. After that time no further pass begins.
    """
    start, (first, *longer) = clock(), sorted(set(contexts))

    def report(stage: str, done: int, total: int) -> None:
        progress(stage, min(99, int(100 * (clock() - start) / seconds)), 100)

    options: dict[str, Any] = {"repeats": repeats, "progress": report, "clock": clock}
    rounds, speeds, left_out = repeats or _FEWEST, dict[tuple[str, int], Throughput](), list[str]()
    #: Seconds of a step of the full model, and for each token of its prefill; 0 before the first one.
    step = token = 0.0
    waiting = [("decode", first), ("prefill", first)]
    waiting += [(kind, context) for kind in ("decode", "prefill") for context in longer]

    def needed(kind: str, context: int) -> float:
        # Of both models, with a warm-up; twice the context takes at least twice the time.
        return 2 * (rounds + 1) * (step if kind == "decode" else token * context)

    for index, (kind, context) in enumerate(waiting):
        if (kind, context) == ("prefill", first):
            times = measure(full, pruned, batch=batch, length=first, seconds=_PREFILL * seconds, **options)
            speeds[kind, context], token = _throughput(times, first, batch * first), times.full.median / 1e3 / first
            continue
        room, name = seconds - (clock() - start), f"{kind} at {context:,} tokens"
        memory = 0
        if kind == "decode":
            every = HeadMask.full(full.layers, full.heads)
            memory = _CACHES * batch * full.card.count_cached_bytes(every, context)
        free = free_bytes(full.device)
        if free is not None and memory > _MEMORY * free:
            left_out.append(f"{name} ({size_of(memory)} of memory)")
            continue
        expected, measured = needed(kind, context), np.zeros((0, 2))
        if index == 0:
            room = allowed = _DECODE * seconds
        else:
            allowed = max(expected, room / max(1, sum(needed(*other) <= room for other in waiting[index:])))
        last = clock() + room
        if expected <= room:
            runs = [_decoding(model, context, batch) for model in (full, pruned)]
            if kind == "prefill":
                inputs = sample_batch(full, batch=batch, length=context)
                runs = [partial(model.logits, inputs) for model in (full, pruned)]
            calls = [partial(_timed, full.device, run, clock) for run in runs]
            measured = _in_turn(calls, repeats, allowed, report, clock, last=last)
        if len(measured) < _FEWEST:
            about = f"about {duration(max(1.0, expected))}" if expected > room else "more than the time left"
            left_out.append(f"{name} ({about})")
            continue
        found = _summarise(measured, batch, context)
        speeds[kind, context] = _throughput(found, context, batch * (1 if kind == "decode" else context))
        step = found.full.median / 1e3 if kind == "decode" else step
    progress(STAGE, 100, 100)
    prefill, decode = (
        tuple(speeds[kind, one] for one in (first, *longer) if (kind, one) in speeds) for kind in ("prefill", "decode")
    )
    return times, GenerationSpeed(prefill, decode, tuple(left_out), batch)


def _throughput(times: Times, context: int, tokens: int) -> Throughput:
    full, pruned = (1e3 * tokens / one.median for one in (times.full, times.pruned))
    return Throughput(context, full, pruned, times.ratio)


def _decoding(model: HeadModel, context: int, batch: int) -> Callable[[], object]:
    """A step that computes the last token of a context."""
    tokens = sample_batch(model, batch=batch, length=2).tensors["input_ids"][:, :1]
    return partial(decode_step, model, tokens, fill_cache(model, tokens, context=max(1, context - 1)))


def measure_onnx(
    models: Sequence[HeadModel], files: Sequence[Path], *, seconds: float = LATENCY_SECONDS
) -> tuple[list[Times], list[Times]]:
    """Time the ONNX ``files`` of ``models`` in turn, as ``measure`` does; the first is the full model.

    They run in onnxruntime with as many threads as torch. Returns the times of a batch, of each other file against the
    first; and of language models with a cache those of the token after a context of 128 tokens, of each file against
    the model in torch, which are the times of the ``full`` model there.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Otherwise threads of idle sessions would spin on the cores of the running one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    sessions = [onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]) for path in files]
    full, length = models[0], min(CONTEXTS[0], models[0].max_length)

    def run(session: Any, batch: Batch, past: int = 0) -> Callable[[], float]:
        inputs = _onnx_inputs(session, batch, past)
        return partial(_timed, torch.device("cpu"), lambda: session.run(["logits", *present[session]], inputs), clock)

    clock, present = perf_counter, {one: [out.name for out in one.get_outputs()[1:]] for one in sessions}
    cached = full.card.saves == "cache"
    batch, share = sample_batch(full, batch=_BATCH, length=length), 0.5 if cached else 1.0
    times = _in_turn([run(one, batch) for one in sessions], None, share * seconds, silent, clock)
    batches = [_summarise(times[:, [0, column]], _BATCH, length) for column in range(1, len(files))]
    if not cached:
        return batches, []
    token = sample_batch(full, batch=1, length=1)
    calls: list[Callable[[], float]] = [
        partial(_timed, model.device, _decoding(model, length, 1), clock) for model in models
    ]
    calls += [run(one, token, length - 1) for one in sessions]
    times, count = _in_turn(calls, None, share * seconds, silent, clock), len(files)
    return batches, [_summarise(times[:, [column, count + column]], 1, length) for column in range(count)]


def _onnx_inputs(session: Any, batch: Batch, past: int) -> dict[str, Any]:
    """Arrays of a batch for an ONNX graph, with a cache of so many tokens where it has one."""
    inputs, draws = dict[str, Any](), np.random.default_rng(0)
    tokens = len(batch.tensors["input_ids"])
    for entry in session.get_inputs():
        if entry.name not in batch.tensors:
            inputs[entry.name] = draws.random((tokens, entry.shape[1], past, entry.shape[3]), dtype=np.float32)
        else:
            inputs[entry.name] = batch.tensors[entry.name].cpu().numpy()
    if past:
        inputs["attention_mask"] = np.ones((tokens, past + 1), dtype=np.int64)
    return inputs


def _in_turn(
    calls: Sequence[Callable[[], float]],
    repeats: int | None,
    seconds: float,
    progress: Progress,
    clock: Callable[[], float],
    *,
    last: float = math.inf,
) -> np.ndarray[Any, Any]:
    """Seconds ``(rounds, len(calls))`` of each call, after a warm-up; no call begins after the time ``last``."""
    start = clock()
    for call in calls:
        for _ in range(_WARMUP):
            if clock() >= last:
                break
            call()
            # A large model is warm after one call.
            if repeats is None and clock() - start > _WARMING * seconds:
                break
    times: list[list[float]] = []
    look = _FIRST_LOOK
    while True:
        spent = (len(times) / repeats) if repeats is not None else (clock() - start) / seconds
        progress(STAGE, min(99, int(100 * spent)), 100)
        if len(times) >= (repeats or _FEWEST) and spent >= 1:
            break
        if repeats is None and len(times) == look:
            first, *others = np.array(times).T
            ratios = [ratio(column / first) for column in others]
            if all(found.high - found.low < PRECISE * found.value for found in ratios):
                break
            # A check after every round would find a narrow interval by chance.
            look = math.ceil(1.25 * look)
        # The order alternates, since the later model finds warmer caches.
        seconds_of_calls = [0.0] * len(calls)
        columns = range(len(calls))
        for column in columns if len(times) % 2 else reversed(columns):
            if clock() >= last:
                return np.array(times)
            seconds_of_calls[column] = calls[column]()
        times.append(seconds_of_calls)
    progress(STAGE, 100, 100)
    return np.array(times)


def _summarise(times: np.ndarray[Any, Any], batch: int, length: int) -> Times:
    full, pruned = (
        Timing(float(np.median(column)), float(np.percentile(column, 95)), batch, length, len(times))
        for column in times.T * 1e3
    )
    return Times(full, pruned, ratio(times[:, 1] / times[:, 0]))


def ratio(values: np.ndarray[Any, Any]) -> Estimate:
    """Median of paired ratios with a 95 % interval: a bootstrap over the pairs, or Student's for fewer than ten.

    A bootstrap of three pairs stays within their range, which contains the median in only three of four cases;
    Student's interval, of the logarithms, is wide enough.
    """
    middle = float(np.median(values))
    if len(values) < _ENOUGH_TO_DRAW:
        from scipy.stats import t

        logs = np.log(values)
        reach = float(t.ppf(0.975, len(values) - 1) * logs.std(ddof=1) / np.sqrt(len(values)))
        centre = float(logs.mean())
        low, high = min(middle, float(np.exp(centre - reach))), max(middle, float(np.exp(centre + reach)))
        return Estimate(middle, (low, high), len(values), "ratio")
    draws = np.random.default_rng(0).choice(values, size=(_DRAWS, len(values)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return Estimate(middle, (float(low), float(high)), len(values), "ratio")


def _timed(device: torch.device, run: Callable[[], object], clock: Callable[[], float]) -> float:
    synchronise(device)
    start = clock()
    run()
    synchronise(device)
    return clock() - start


def attention_share(model: HeadModel, inputs: Batch, *, seconds: float | None = None) -> float:
    """Share of the time of a forward pass between the query, key, value projections and the output projection.

    The median of five passes, or of those that fit into ``seconds`` (at least one), of a warm model. It is the upper
    bound of what the removal of heads can save (Amdahl's law).
    """
    # On a copy that shares the weights, since the model may be in use.
    copy = cut(model, HeadMask.full(model.layers, model.heads))
    started, inside = [0.0], [0.0]

    def enter(*_: Any) -> None:
        synchronise(model.device)
        started[0] = perf_counter()

    def leave(*_: Any) -> None:
        synchronise(model.device)
        inside[0] += perf_counter() - started[0]

    for layer in copy.layer_modules:
        layer.get_submodule(copy.family.attention).register_forward_pre_hook(enter)
        layer.get_submodule(copy.family.output).register_forward_hook(leave)
    shares: list[float] = []
    start = perf_counter()
    while len(shares) < 5 and (not shares or seconds is None or perf_counter() - start < seconds):
        inside[0] = 0.0
        whole = _timed(copy.device, partial(copy.logits, inputs), perf_counter)
        shares.append(inside[0] / whole)
    return float(np.median(shares))


def flops(model: HeadModel, *, length: int) -> int:
    """Floating-point operations of one text of ``length`` tokens, counted while it runs."""
    inputs = sample_batch(model, batch=1, length=length)
    with FlopCounterMode(display=False) as counter:
        # With a probe, attention is computed by matrix products, which are counted; fused kernels are not always.
        model.logits(inputs, probe=lambda layer, weights: None)
    return int(counter.get_total_flops())
