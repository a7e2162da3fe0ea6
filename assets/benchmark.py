"""The speed of signatures and of the selection of heads, against a plain forward pass; and that of a whole run.

Everything is measured in turn and told as ratios: seconds of a shared machine say little. ``--run`` times ``cahp
prune`` in new processes, from start to files, on random weights in the shape of BERT-base, against the passes that it
needs at least: one over the texts that it chooses heads on, and two over those that it evaluates both models on.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification

from cahp import models
from cahp.data import sample
from cahp.models.devices import synchronise
from cahp.models.head_model import HeadModel
from cahp.run.document import machine
from cahp.run.settings import Settings, identify_model
from cahp.run.texts import load_data, match_labels
from cahp.stages.clustering import cluster, space
from cahp.stages.selection import select
from cahp.stages.signatures import Collector, collect, examples_used, gate_gradients, salience
from cahp.tasks.texts import Texts
from cahp.values import Estimate
from cahp.words import number, size_of

#: The largest wanted ratio of the seconds of signatures to those of a forward pass.
LIMIT = 1.05
#: The median of so many ratios lies between the lowest and the highest one with a probability of 97 %.
ROUNDS = 6
#: Texts of a whole run: those that heads are chosen on, and those that both models are evaluated on.
RUN_TEXTS = 640, 311


def find_peak(where: torch.device) -> int | None:
    """Peak memory in bytes: of a GPU, otherwise of this whole process (None: unknown)."""
    if where.type == "cuda":
        return int(torch.cuda.max_memory_allocated(where))
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if sys.platform == "darwin":
        return int(most)
    # Other systems count in units of 1,024 bytes.
    return int(most << 10)


def find_ratio(seconds: Sequence[float], reference: Sequence[float]) -> Estimate:
    """The median of the ratios of both in each round, with the lowest and the highest one."""
    ratios = np.divide(seconds, reference)
    return Estimate(float(np.median(ratios)), (float(ratios.min()), float(ratios.max())), len(ratios), "number")


def measure(settings: Settings, *, limit: int = 640, rounds: int = ROUNDS) -> dict[str, Any]:
    """Time all contestants ``rounds`` times in turn on the first ``limit`` texts of the selection split.

    ``settings`` name model, data and device. ``peak_memory`` is what was in use at most: on a GPU by this package, else
    by this whole process.
    """
    busy = None
    if hasattr(os, "getloadavg"):
        busy = os.getloadavg()[0]
    model = models.load(identify_model(settings), device=settings.device)
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(model.device)
    data = match_labels(load_data(settings, model.card), settings, model.card)
    texts, _ = sample(data.split(settings.select_split), limit, how="head")

    def choose() -> None:
        collector = Collector(model, classes=len(texts.classes))
        gradients = gate_gradients(model, texts, watch=collector.watch)
        rest = np.arange(examples_used(texts), len(texts))
        signatures = collect(model, texts, rows=rest, into=collector)
        select(cluster(space(signatures)), salience(gradients), budget=None)

    contestants: dict[str, Callable[[], object]] = {
        "forward": lambda: pass_texts(model, texts),
        "signatures": lambda: collect(model, texts),
        "selection": choose,
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, work in contestants.items():
            synchronise(model.device)
            start = perf_counter()
            work()
            synchronise(model.device)
            # The first round warms up.
            if turn:
                times[name].append(perf_counter() - start)
    device = machine()
    if model.device.type == "cuda":
        device = torch.cuda.get_device_name(model.device)
    ratios = {name: find_ratio(seconds, times["forward"]) for name, seconds in times.items() if name != "forward"}
    return {
        "model": model.card.id,
        "texts": len(texts),
        "windows": texts.task.predicts_often,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "seconds": {name: float(np.median(seconds)) for name, seconds in times.items()},
        "ratios": ratios,
        "kept": ratios["signatures"].value <= LIMIT,
        "peak_memory": find_peak(model.device),
        "device": device,
        "load": busy,
    }


def words(results: Mapping[str, Any]) -> Iterator[str]:
    """A benchmark as a person reads it."""
    how = f"{results['threads']} threads, median [lowest, highest] of {results['rounds']} rounds in turn"
    items = "windows" if results.get("windows") else "texts"
    yield f"{results['model']}, {results['texts']} {items}, {how}"
    where = f"on {results['device']}"
    if results["load"] is not None:
        where += f"; load {number(results['load'], 2)} before"
    yield where
    for name, title in {"forward": "forward pass", "signatures": "signatures", "selection": "whole selection"}.items():
        remark = ""
        if name in results["ratios"]:
            remark = describe_ratio(results["ratios"][name])
        if name == "signatures":
            limit = f"at most {number(LIMIT, 2)} x"
            if not results["kept"]:
                limit += ", missed"
            remark += f" ({limit})"
        yield f"  {title:<18}{results['seconds'][name]:>7.2f} s   {remark}".rstrip()
    if results["peak_memory"] is not None:
        yield f"  peak memory       {size_of(results['peak_memory']):>9}"


def describe_ratio(ratio: Estimate) -> str:
    """A ratio with the lowest and the highest one."""
    low, high = ratio.ci95
    return f"{number(ratio.value, 2)} [{number(low, 2)}, {number(high, 2)}] x a forward pass"


def save_bert_base(folder: Path) -> None:
    """Save random weights in the shape of BERT-base, with tokenizer and classes of the built-in model."""
    builtin = models.load(Settings.model, device="cpu")
    known = builtin.network.config
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(builtin.tokenizer), id2label=known.id2label, label2id=known.label2id)
    BertForSequenceClassification(config).save_pretrained(folder)
    builtin.tokenizer.save_pretrained(folder)


def measure_run(folder: Path, *, data: str = "bbc-news", rounds: int = 3) -> Iterator[str]:
    """Time whole runs of the model in ``folder`` against their own passes, in turn; say it."""
    settings = Settings(model=str(folder), data=data, device="cpu", max_length=128)
    model = models.load(identify_model(settings), device="cpu")
    dataset = match_labels(load_data(settings, model.card), settings, model.card)
    chosen, _ = sample(dataset.split(settings.select_split), RUN_TEXTS[0], how="head")
    evaluated, _ = sample(dataset.split(settings.eval_split), RUN_TEXTS[1], how="head")
    pass_texts(model, evaluated)
    runs: list[float] = []
    passes: list[float] = []
    for _ in range(rounds):
        with TemporaryDirectory() as scratch:
            command = [sys.executable, "-m", "cahp", "prune", "--model", str(folder), "--data", data]
            command += ["--limit", str(len(chosen)), "--sample", "head", "--eval-limit", str(len(evaluated))]
            command += ["--max-length", "128", "--device", "cpu", "--out", f"{scratch}/out"]
            start = perf_counter()
            environment = {**os.environ, "CAHP_CACHE": f"{scratch}/cache"}
            subprocess.run(command, check=True, capture_output=True, env=environment)
            runs.append(perf_counter() - start)
        start = perf_counter()
        for texts in (chosen, evaluated, evaluated):
            pass_texts(model, texts)
        passes.append(perf_counter() - start)
    texts = f"{len(chosen)} texts to choose on, {len(evaluated)} to evaluate on"
    yield f"cahp prune, shape of BERT-base (12 x 12 heads), {texts}, on {machine()}"
    yield f"  passes of these texts {np.median(passes):>7.1f} s"
    yield f"  whole run             {np.median(runs):>7.1f} s   {describe_ratio(find_ratio(runs, passes))}"


def pass_texts(model: HeadModel, texts: Texts) -> None:
    """One forward pass of all texts."""
    for batch in model.batches(model.tokenize(texts.inputs)):
        model.logits(batch)


def main() -> None:
    """Measure the speed of choosing heads, or of a whole run, and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=Settings.model)
    parser.add_argument("--data")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--texts", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--run", action="store_true", help="time whole runs in the shape of BERT-base")
    given = parser.parse_args()
    if given.run:
        with TemporaryDirectory() as scratch:
            save_bert_base(Path(scratch) / "bert-base")
            print("\n".join(measure_run(Path(scratch) / "bert-base")))
        return
    settings = Settings(model=given.model, data=given.data, device=given.device)
    print("\n".join(words(measure(settings, limit=given.texts, rounds=given.rounds))))


if __name__ == "__main__":
    main()
