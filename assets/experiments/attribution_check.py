"""Check attribution on texts: rank heads by attribution, and by removing each of them exactly.

    cahp experiment attribution_check minilm-bbc --texts 50 --device cpu

For each evaluation text every head is removed alone, exactly, and the changes are ranked beside the estimated ones
(Spearman). Then the top heads by attribution are removed together, beside random sets of as many, and the top heads
alone are kept. Each text is stored as soon as it is measured, so an interrupted check resumes.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from _attribution_check import (
    COLUMNS,
    COMPARED,
    AttributionCheck,
    KeptAlone,
    RemovedTogether,
    TextCheck,
    check_rows,
    describe_check,
    make_document,
)
from _settings import add_settings, check_file, print_result, read_settings
from numpy.typing import NDArray

from cahp import open_bench
from cahp.features.attribution.measuring import Baseline, TextQuestion, check_whole, draw_sets, find_baseline
from cahp.features.attribution.result import order_by_support
from cahp.files import json_text, plain_json
from cahp.models.tokenizing import tokenize_own
from cahp.run.bench import Bench
from cahp.run.document import machine
from cahp.run.texts import load_data
from cahp.store import Store, key
from cahp.terminal.progress import bars
from cahp.values import DataError, Floats, HeadMask, Input, Ints, digest, spread

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel

STAGE = "check of attribution"
#: Bump to invalidate cached results.
_REVISION = 2
#: The most tokens that are read of each text; of a language model half of these.
TOKENS = 64
#: Numbers of heads that are removed together.
REMOVED = (5, 10, 20)
#: Numbers of heads that are kept alone, beside half of all.
KEPT = (10, 20)
#: Random sets of each size: removed, and kept alone.
_REMOVED_SETS = 10
_KEPT_SETS = 5
#: Fields of the settings that are options.
SETTINGS = ("data", "eval_split", "window", "tokens", "seed", "device")


def main(arguments: Sequence[str] | None = None) -> None:
    """Check attribution, print the result, and write it as JSON."""
    parser = argparse.ArgumentParser(prog="cahp experiment attribution_check", description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a built-in, a hub id, a folder or a GGUF file")
    parser.add_argument("--texts", type=int, default=50, help="number of evaluation texts (default: 50)")
    add_settings(parser, SETTINGS)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args(arguments)
    settings = replace(read_settings(options, SETTINGS), model=options.model)
    output = check_file(options.out, "cahp.attribution")
    with bars(quiet=options.json, lines=True) as progress:
        bench = open_bench(settings, store=Store(), progress=progress)
        check = check_attribution(bench, find_baseline(bench), texts=options.texts)
    command = shlex.join(["cahp", "experiment", "attribution_check", *(arguments or sys.argv[1:])])
    made = {"machine": machine(), "date": date.today().isoformat(), "command": command}
    document = make_document(replace(check, made=made))
    if output is not None:
        output.write({options.out.name: json_text(document).encode()})
    print_result(document, describe(check), as_json=options.json)


def check_attribution(bench: Bench, baseline: Baseline, *, texts: int) -> AttributionCheck:
    """Check attribution on the first tokens of ``texts`` evaluation texts; each is stored as soon as it is measured.

    Raises:
        DataError: If there are no texts.
    """
    model = bench.model
    check_whole(model)
    chosen = _choose_texts(bench, texts)
    checks = []
    for number_, text in enumerate(chosen):
        bench.resources.progress(STAGE, number_, len(chosen))
        checks.append(_find_check(bench, model, text, baseline))
    bench.resources.progress(STAGE, len(chosen), len(chosen))
    return AttributionCheck(
        model=bench.card.id,
        sha256=bench.card.identity,
        unit=bench.card.unit,
        units=bench.card.layers * bench.card.heads,
        answer=bench.card.words.answer,
        data=bench.dataset.id,
        baseline=str(baseline),
        texts=tuple(checks),
    )


def _choose_texts(bench: Bench, count: int) -> list[Input]:
    """Return texts of the evaluation split, evenly spread; of a language model documents, not windows."""
    split = load_data(bench.settings, bench.card).splits[bench.settings.eval_split]
    inputs = list(split.plain_inputs)
    if not inputs:
        raise DataError(f"{bench.dataset.id} has no evaluation texts; name other data with --data")
    return [inputs[row] for row in spread(len(inputs), count)]


def _find_check(bench: Bench, model: HeadModel, text: Input, baseline: Baseline) -> TextCheck:
    """Return the stored check of one text, or measure and store it."""
    entry, _ = tokenize_own(model, text, max_length=TOKENS)
    if bench.card.task.predicts_often:
        # The answer shall continue a sentence, not follow its end.
        half = max(1, len(entry["input_ids"]) // 2)
        entry = {column: values[:half] for column, values in entry.items()}
    sizes = [REMOVED, KEPT, _REMOVED_SETS, _KEPT_SETS]
    name = key(
        STAGE,
        _REVISION,
        bench.card.sha256,
        digest(baseline.means.tobytes()),
        bench.settings.seed,
        entry["input_ids"],
        *sizes,
    )
    stored = bench.resources.load_cached(
        STAGE, name, lambda of: msgspec.convert(dict(of.meta), TextCheck, strict=False)
    )
    if stored is not None:
        return stored
    with bench.resources.timed(STAGE):
        measured = check_text(TextQuestion(model, entry, baseline), seed=bench.settings.seed)
    bench.resources.keep(name, {}, plain_json(measured))
    return measured


def check_text(question: TextQuestion, *, seed: int) -> TextCheck:
    """Check attribution of the predicted answer on one text, by removing every head alone."""
    changes, logs = question.estimate(None)
    answer = int(logs.argmax())
    shape = changes.shape
    units = changes.size
    order = np.array(order_by_support(changes))
    # Those that change the answer most, either way.
    largest = np.array(order_by_support(-np.abs(changes)))
    alone = [HeadMask.without([head], *shape).keep for head in range(units)]
    removed = [size for size in REMOVED if size < units]
    kept = sorted({size for size in (*KEPT, units // 2) if size < units})
    masks = [*alone, *_list_masks(removed, order, shape, seed=seed, sets=_REMOVED_SETS)]
    masks += [~mask for mask in _list_masks(kept, order, shape, seed=seed, sets=_KEPT_SETS)]
    masks += [HeadMask.of(largest[:size], *shape).keep for size in kept]
    measured, predictions = question.remove(masks, answer)
    exact = measured - logs[answer]
    together = exact[units : units + len(removed) * (1 + _REMOVED_SETS)].reshape(len(removed), 1 + _REMOVED_SETS)
    stays = predictions[units + together.size :] == answer
    by_size = stays[len(stays) - len(kept) :]
    by_support = stays[: len(stays) - len(kept)].reshape(len(kept), 1 + _KEPT_SETS)
    return TextCheck(
        tokens=len(question.entry["input_ids"]),
        correlation=correlate(changes.ravel(), exact[:units]),
        overlap=_overlap(changes.ravel(), exact[:units]),
        removed=tuple(
            RemovedTogether(size, _rounded(row[0]), tuple(map(_rounded, row[1:])))
            for size, row in zip(removed, together, strict=True)
        ),
        kept=tuple(
            KeptAlone(size, bool(row[0]), bool(other), float(row[1:].mean()))
            for size, row, other in zip(kept, by_support, by_size, strict=True)
        ),
    )


def _list_masks(
    sizes: Sequence[int], order: Ints, shape: tuple[int, int], *, seed: int, sets: int
) -> Iterator[NDArray[np.bool_]]:
    """Yield, for each size, the mask without the first heads of ``order``, and those without random heads."""
    for size in sizes:
        yield HeadMask.without(order[:size], *shape).keep
        for heads in draw_sets(order.size, size, seed=seed, sets=sets):
            yield HeadMask.without(heads, *shape).keep


def _overlap(estimated: Floats, exact: Floats, top: int = COMPARED) -> float:
    """Return the share of the ``top`` lowest exact changes that are among the ``top`` lowest estimated ones."""
    first = set(np.argsort(estimated, kind="stable")[:top].tolist())
    return len(first & set(np.argsort(exact, kind="stable")[:top].tolist())) / min(top, len(exact))


def correlate(estimated: Floats, exact: Floats) -> float:
    """Return Spearman's rank correlation; 0 where all values of one are equal."""
    from scipy.stats import spearmanr

    if np.ptp(estimated) == 0 or np.ptp(exact) == 0:
        return 0.0
    return _rounded(spearmanr(estimated, exact).statistic)


def _rounded(value: float) -> float:
    return round(float(value), 4)


def describe(check: AttributionCheck) -> Iterator[str]:
    """Return a check as lines of text."""
    yield describe_check(check)
    yield ""
    table = [COLUMNS, *check_rows(check)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for label, *cells in table:
        padded = [f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True)]
        yield f"  {label:<{widths[0]}}  {'  '.join(padded)}"
    intervals = ""
    if check.correlation.ci95 is not None:
        intervals = " with 95 % intervals"
    yield f"  of the predicted {check.answer}; medians over texts{intervals}; a removed {check.unit} gives its"
    yield f"  {check.baseline}"


if __name__ == "__main__":
    main()
