"""Compare recoveries in closed form: what a bypass gains over a refit, on text and on long articles.

Groups are chosen by ``obs-fisher``, at each budget and seed. Each recovery of a mask is measured on the evaluation text
of the model, on the first articles of a text that it was not fitted on, in windows of 2,048 tokens, and by its second
reading of passages. Paired differences are computed from the values of documents, which ``--out`` keeps; with several
seeds, their intervals are those of the means of seeds. An interrupted measurement resumes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from _articles import ARTICLES, WINDOW, read_articles

from cahp import open_bench
from cahp.features.abilities.section import measure_receipt
from cahp.files import json_text, plain_json, write_whole
from cahp.outcomes import estimate_ratio, measure
from cahp.recoveries import RECOVERIES
from cahp.run.bench import Bench
from cahp.run.document import machine
from cahp.run.prune import choose
from cahp.run.settings import Settings
from cahp.tasks.answers import Evaluation
from cahp.tasks.texts import Texts
from cahp.terminal.progress import bars
from cahp.values import Estimate, Progress
from cahp.values.statistics import half_interval

#: The recovery that the others are compared with.
REFERENCE = "refit"
#: The state of all groups.
FULL = "full"


def sum_documents(answers: Evaluation, full: Evaluation) -> dict[str, list[float]]:
    """Sum the KL divergence over the answers of each document, and count these."""
    divergences = answers.divergences(full)
    # Each text of a classifier is a document with one answer.
    documents = answers.units
    if documents is None:
        documents = np.arange(len(divergences))
    numbers = np.unique(documents, return_inverse=True)[1]
    sums = {"kl": divergences, "answers": np.ones(len(divergences))}
    return {name: np.bincount(numbers, values).round(6).tolist() for name, values in sums.items()}


def measure_recovery(bench: Bench, articles: Texts | None, recovery: str) -> dict[str, Any]:
    """Measure the groups of a bench after a recovery (``full``: all groups)."""
    budget = int(bench.settings.budget)
    mask = choose(bench, budget).mask
    recovered = None
    states: dict[str, Any] = {}
    if recovery != FULL:
        recovered = bench.recoveries.recover(mask, recovery)
        states = {"mask": mask, "recovered": recovered}
    content: dict[str, Any] = {"seed": bench.settings.seed, "budget": budget, "recover": recovery}
    for name, texts in (("news", bench.evaluation), ("articles", articles)):
        if texts is None:
            continue
        full = bench.measurements.evaluate(texts)
        answers = bench.measurements.evaluate(texts, **states)
        outcomes = measure(answers, full=full, seed=bench.settings.seed)
        content[name] = outcomes
        content[f"{name}_documents"] = sum_documents(answers, full)
    if recovery == FULL:
        return content
    content |= {"kept": mask.by_layer, "refit": recovered and recovered.refit}
    if RECOVERIES[recovery].adds_bypass:
        content["adds"] = bench.card.describe_bypass(mask, bench.card.choose_rank(None))
    if bench.card.predicts_tokens:
        content["abilities"] = plain_json(measure_receipt(bench, mask, recovered, complete=False))
    return content


def compare(rows: Sequence[Mapping[str, Any]], recovery: str, text: str) -> Estimate:
    """Estimate the KL divergence of an answer after a recovery minus that after the reference, of one or several seeds.

    Of one seed its interval is a bootstrap over documents, paired; of several it is Student's over seeds, which draw
    other texts and choose other groups.
    """
    by_arm = {(row["seed"], row["recover"]): row[f"{text}_documents"] for row in rows}
    pairs = [(by_arm[seed, name], by_arm.get((seed, REFERENCE))) for seed, name in by_arm if name == recovery]
    changes = []
    means = []
    for values, other in pairs:
        if other is None:
            continue
        change = np.subtract(values["kl"], other["kl"])
        answers = np.array(values["answers"])
        changes.append(estimate_ratio(change, answers, 42, "nats"))
        means.append(change.sum() / answers.sum())
    if len(changes) == 1:
        return changes[0]
    mean = float(np.mean(means))
    half = float(half_interval(np.array(means)))
    return Estimate(mean, (mean - half, mean + half), len(means), "nats")


def measure_all(
    file: Path,
    model: str,
    *,
    source: str | None = None,
    budgets: Sequence[int],
    seeds: Sequence[int],
    recoveries: Sequence[str],
    text: Path | None,
    tokens: int,
    progress: Progress,
) -> dict[str, Any]:
    """Measure all arms, as far as ``file`` lacks them, and write them after each."""
    rows: dict[tuple[int, int, str], Any] = {}
    if file.is_file():
        rows = {
            (row["budget"], row["seed"], row["recover"]): row for row in json.loads(file.read_text("utf-8"))["rows"]
        }
    content: dict[str, Any] = {}
    for budget, seed in product(budgets, seeds):
        missing = [name for name in (FULL, "none", *recoveries) if (budget, seed, name) not in rows]
        if not missing:
            continue
        settings = Settings(model=model, data=source, method="obs-fisher", budget=str(budget), seed=seed, latency=False)
        bench = open_bench(settings, progress=progress)
        articles = None
        if text is not None:
            articles = read_articles(bench, text, tokens)
        for name in missing:
            rows[budget, seed, name] = measure_recovery(bench, articles, name)
            listed = [rows[key] for key in sorted(rows)]
            content = {"made": {"machine": machine(), "date": date.today().isoformat()}, "model": model}
            content |= {"window": WINDOW, "rows": listed, "differences": list_differences(listed)}
            write_whole(file.parent, {file.name: json_text(plain_json(content)).encode()})
    return content


def list_differences(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """List the paired differences from the reference at each budget."""
    plain = [plain_json(row) for row in rows]
    found = []
    for budget in sorted({row["budget"] for row in plain}):
        here = [row for row in plain if row["budget"] == budget]
        names = {row["recover"] for row in here}
        if REFERENCE not in names:
            continue
        for name in sorted(names - {FULL, REFERENCE}):
            for text in ("news", "articles"):
                if f"{text}_documents" in here[0]:
                    seeds = sorted({row["seed"] for row in here if row["recover"] == name})
                    difference = compare(here, name, text)
                    found.append({"budget": budget, "recover": name, "text": text, "seeds": seeds, "kl": difference})
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the values as JSON."""
    parser = argparse.ArgumentParser(prog="cahp experiment bypass", description=__doc__)
    parser.add_argument("model", help="model")
    parser.add_argument("--data", help="its data, if they are not those of the package")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write, or to complete")
    parser.add_argument("--budgets", type=int, nargs="+", default=[72, 45], help="numbers of groups (default: 72 45)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42], help="seeds (default: 42)")
    closed = [name for name, row in RECOVERIES.items() if row.closed_form]
    parser.add_argument("--recoveries", nargs="+", default=[REFERENCE, "bypass"], choices=closed, help="recoveries")
    parser.add_argument("--text", type=Path, help="a text in the form of WikiText, on which nothing was fitted")
    parser.add_argument("--tokens", type=int, default=ARTICLES, help=f"its first tokens (default: {ARTICLES})")
    options = parser.parse_args(arguments)
    with bars(quiet=False, lines=True) as progress:
        measure_all(
            options.out,
            options.model,
            source=options.data,
            budgets=options.budgets,
            seeds=options.seeds,
            recoveries=options.recoveries,
            text=options.text,
            tokens=options.tokens,
            progress=progress,
        )


if __name__ == "__main__":
    main()
