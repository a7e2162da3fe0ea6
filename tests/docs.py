"""The README and the pages of ``assets/docs``: their commands and snippets, and the tables that come from code.

``.venv/bin/python tests/docs.py`` writes the tables into the pages again; ``tests/test_readme.py`` compares them. With
``--run`` it also runs the first command of the README and writes its output there, with ``--bench`` the benchmark. With
``--types`` it also loads a tiny model of each type and writes the table of types.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from subprocess import run
from tempfile import TemporaryDirectory
from textwrap import wrap
from typing import Any

import benchmark
import click
import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray

from cahp import cli, methods
from cahp.api import bundled
from cahp.comparison import Comparison
from cahp.comparison.arrays import tabulate
from cahp.comparison.claims import RANDOM, compare_shares, kept_shares
from cahp.comparison.document import Verdict
from cahp.comparison.plan import LANGUAGE, PRESETS
from cahp.comparison.sentences import count_texts, describe_p, describe_tie, write_p
from cahp.comparison.statistics import crossed_mean
from cahp.exports import formats
from cahp.features.peers.result import COLUMNS as PEER_COLUMNS
from cahp.features.peers.result import describe_gains, describe_winner, read_bundled, table_rows
from cahp.features.premise.words import MEASURES, describe_control, describe_predictors, read_estimate
from cahp.models.head_model import HeadModel
from cahp.outcomes import OUTCOMES, estimate_ratio, to_perplexity
from cahp.recoveries import RECOVERIES
from cahp.run.document import RunDocument
from cahp.run.settings import Settings, describe
from cahp.values import Estimate, Floats, holm_correction
from cahp.words import capital, number, p_value, percent

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "assets").rglob("*.md")))
    # Not a page of the guide: the front page of a Space.
    if path.parent.name != "space"
}
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
GROUP: click.Group = typer.main.get_command(cli.app)  # type: ignore[assignment]


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a page in one language; commands have none."""
    return [text for found, text in _BLOCK.findall(PAGES[page]) if found == language]


def lines(page: str) -> list[str]:
    """Return the lines of a page that are typed into a terminal; blocks that begin with no command show something."""
    first = re.compile(r"(cahp|make|pip|python3|accelerate|llama-cli|\.venv/bin/\w+)\s")
    return [line for block in blocks(page, "") if first.match(block) for line in block.splitlines() if line.strip()]


def commands(page: str) -> list[list[str]]:
    """Return the words of each ``cahp`` command that a page shows, without ``cahp`` itself."""
    words = [shlex.split(line, comments=True) for line in lines(page)]
    return [line[line.index("cahp") + 1 :] for line in words if line[:1] in (["cahp"], ["accelerate"])]


def outputs() -> list[tuple[str, list[str], str]]:
    """Return each output that is shown: its page, the command before it, and the output."""
    shown = re.compile(r"^```\n([^`]*)```\n\n```text\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [
        (page, shlex.split(lines.strip().splitlines()[-1], comments=True)[1:], output)
        for page, text in PAGES.items()
        for lines, output in shown.findall(text)
    ]


def options(command: str) -> set[str]:
    """Return the spellings of all options of a command; ``experiment`` has those of its scripts."""
    if command == "experiment":
        scripts = (ROOT / "assets" / "experiments").glob("*.py")
        given = {name for script in scripts for name in re.findall(r'"(--[a-z-]+)"', script.read_text("utf-8"))}
        return given | {setting.flag for setting in describe().values()} | {"--help"}
    return {name for option in GROUP.commands[command].params for name in (*option.opts, *option.secondary_opts)}


def _table(head: str, rows: Iterable[Iterable[object]]) -> list[str]:
    columns = head.count("|") + 1
    return [f"| {head} |", "|" + "---|" * columns, *(f"| {' | '.join(map(str, row))} |" for row in rows)]


def _commands() -> list[str]:
    return _table(
        "command | what it does",
        ((f"`cahp {name}`", command.get_short_help_str(200)) for name, command in GROUP.commands.items()),
    )


def _forms() -> list[str]:
    return _table(
        "`--format` | loads with | size | speed | checked before it is written | for",
        (
            (
                f"`{form.key}`",
                f"{form.loads_with}{f' (extra `{form.extra}`)' if form.extra else ''}",
                form.describe_size(None),
                form.speed,
                form.exactness,
                form.needs_model or "models whose heads can be cut",
            )
            for form in formats.model_forms()
        ),
    )


def _runs_in() -> list[str]:
    head = " | ".join(f"{name}, {version}" for name, version in formats.RUNTIMES.items())
    rows = []
    for form in formats.model_forms():
        cells = (form.runs_in.get(name, formats.UNTRIED) for name in formats.RUNTIMES)
        rows.append((f"`{form.key}`", *cells))
    return _table(f"`--format` | {head}", rows)


def _mask_forms() -> list[str]:
    return _table(
        "`--format` | what it is | what reads it",
        ((f"`{form.key}`", form.words, form.loads) for form in formats.mask_forms()),
    )


def _recoveries() -> list[str]:
    return _table(
        "`--recover` | what it does | labels | trains all weights",
        (
            (f"`{row.name}`", row.choice, *("yes" if fact else "no" for fact in (row.needs_labels, row.trains)))
            for row in RECOVERIES.values()
        ),
    )


def _methods() -> list[str]:
    names = sorted(methods.names(), key=lambda name: (name != "complementary", name))
    return _table("method | how it chooses heads | source", (_describe_method(name) for name in names))


def _describe_method(name: str) -> tuple[str, str, str]:
    """The name, the first sentence and the source of a method, as its docstring says them."""
    words = type(methods.get(name)).__doc__ or ""
    (source,) = re.findall(r"Source: (.*?)\. Cost: ", " ".join(words.split()))
    linked = re.sub(r"arXiv (\d{4}\.\d{5})", r"[\g<0>](https://arxiv.org/abs/\1)", source)
    linked = re.sub(r"openreview\.net/\S+?(?=\))", r"[OpenReview](https://\g<0>)", linked)
    return f"`{name}`", words.strip().splitlines()[0], linked


def _presets() -> list[str]:
    return _table(
        "`--preset` | methods | expensive methods | heads kept | seeds | calibration and evaluation texts | recoveries",
        (
            (
                f"`{name}`",
                len(preset.methods),
                preset.expensive,
                ", ".join(preset.budgets),
                len(preset.seeds),
                f"{preset.limit:,} and {preset.eval_limit:,}"
                if name != LANGUAGE
                else f"{Settings.tokens:,} and {Settings.eval_tokens:,} tokens",
                ", ".join(preset.recoveries),
            )
            for name, preset in PRESETS.items()
        ),
    )


def _outcomes() -> list[str]:
    return _table(
        "outcome | meaning | unit | needs labels",
        ((f"`{row.name}`", row.label, row.unit, "yes" if row.needs_labels else "no") for row in OUTCOMES.values()),
    )


#: The outcomes that tables of comparisons show.
SHOWN = ("kl", "agreement", "accuracy")


@cache
def _read(comparison: str) -> Comparison:
    return Comparison.read(bundled.comparisons_folder() / comparison)


def _cell(estimate: Estimate) -> str:
    return f"{estimate.text.removesuffix(' %').removesuffix(' points')} {estimate.interval}"


def _measured(comparison: str, *recoveries: str) -> list[str]:
    """The outcomes of a bundled comparison, after some recoveries (none given: all)."""
    results = _read(comparison).results
    return _table(
        "recovery | heads | method | KL divergence, nats | agreement, % | accuracy, %",
        (
            (*_row(*place), *(_cell(results.means[place[0], place[2], place[1]].outcomes[name]) for name in SHOWN))
            for place in _places(comparison)
            if not recoveries or place[0] in recoveries
        ),
    )


def _places(comparison: str) -> Iterator[tuple[str, int, str]]:
    """Return each recovery, budget and method that a comparison measured."""
    results = _read(comparison).results
    for recovery in results.recoveries:
        for budget in results.budgets_after(recovery):
            measured = (name for name in results.methods if (recovery, name, budget) in results.means)
            yield from ((recovery, budget, name) for name in measured)


def _row(recovery: str, budget: int, *method: str) -> tuple[object, ...]:
    return (f"`{recovery}`", budget, *(f"`{name}`" for name in method))


def _against_random(comparison: str) -> list[str]:
    """By how much CAHP is ahead of random selection in a bundled comparison."""
    read = _read(comparison)
    tests = {
        (name, one.recovery, one.budget): one
        for name in SHOWN
        for one in read.results_on("eval", name).verdicts
        if one.method == "random"
    }
    return _table(
        "recovery | heads | KL divergence lower by, nats | agreement higher by, points | accuracy higher by, points",
        (
            (*_row(*place), *(_difference(tests[name, *place]) for name in SHOWN))
            for place in dict.fromkeys((recovery, budget) for recovery, budget, _ in _places(comparison))
        ),
    )


def _means(comparison: str, budget: int) -> dict[tuple[str, str], Mapping[str, Estimate]]:
    """The outcomes of a bundled comparison at a budget, by recovery and method."""
    means = _read(comparison).results.means
    return {(recovery, name): mean.outcomes for (recovery, name, at), mean in means.items() if at == budget}


def _ranked(comparison: str, budget: int) -> list[str]:
    """The methods of a bundled comparison at a budget, by their KL divergence after the refit, with tests of CAHP."""
    results, means = _read(comparison).results, _means(comparison, budget)
    tests = {one.method: one for one in results.verdicts if (one.recovery, one.budget) == ("refit", budget)}
    shares = [name for name in SHOWN[1:] if name in results.outcomes]
    columns = {
        recovery: words
        for recovery, words in (("none", "as pruned"), ("mean", "after mean ablation"), ("refit", "after refit"))
        if recovery in results.recoveries
    }
    return _table(
        " | ".join(
            (
                "method",
                *(f"KL {words}" for words in columns.values()),
                "CAHP's lead after refit",
                *(f"{name} after refit, %" for name in shares),
            )
        ),
        (
            (
                f"`{name}`",
                *(_cell(means[recovery, name]["kl"]) for recovery in columns),
                _difference(tests[name]) if name in tests else "",
                *(_cell(means["refit", name][outcome]) for outcome in shares),
            )
            for name in sorted(results.methods, key=lambda name: means["refit", name]["kl"].value)
        ),
    )


#: The methods in the table of the README, and what it calls them.
_FIRST = {
    "obs-fisher": "`obs-fisher` (our method: optimal brain surgeon on heads), which reads no labels",
    "gradient": "`gradient`",
    "salience": "`salience`, CAHP's scores without clusters",
    "complementary": "CAHP",
    "random": "random selection",
}


def _bbc() -> list[str]:
    """The KL divergence of each method on BBC News by budget, as pruned and after the refit."""
    means = _read("minilm-bbc").results.means
    places = [(recovery, budget) for recovery in ("none", "refit") for budget in (6, 12, 20)]
    words = {"none": "heads", "refit": "refitted"}
    return _table(
        " | ".join(("method", *(f"{budget} {words[recovery]}" for recovery, budget in places))),
        (
            (f"`{name}`", *(_cell(means[recovery, name, budget].outcomes["kl"]) for recovery, budget in places))
            for name in ("complementary", "gradient", "salience", "fisher", "magnitude", "random")
        ),
    )


def _readme() -> list[str]:
    """A few methods of the bundled comparison on SST-5 at 12 heads."""
    means = _means("minilm-sst5", 12)
    return _table(
        "heads chosen by | KL as pruned | KL after refit | agreement after refit, % | accuracy after refit, %",
        (
            (words, _cell(means["none", name]["kl"]), *(_cell(means["refit", name][outcome]) for outcome in SHOWN))
            for name, words in _FIRST.items()
        ),
    )


def _difference(test: Verdict) -> str:
    return f"{_cell(Estimate(test.pp, test.interval, test.n, test.unit))}, {describe_p(test)}"


def _bundled() -> Iterator[str]:
    """The names of the bundled comparisons that have a primary test."""
    for file in sorted(bundled.comparisons_folder().glob("*/compare.json")):
        if _read(file.parent.name).results.primary is not None:
            yield file.parent.name


def _primary() -> list[str]:
    """The primary test of each bundled comparison of several methods."""
    rows = []
    for name in _bundled():
        results = _read(name).results
        primary = results.primary
        assert primary is not None
        place = primary.words
        for test in primary.tests:
            n = count_texts(test, results.noun).removeprefix("n = ")
            rows.append((f"`{name}`", place, n, f"`{test.method}`", _difference(test), _conclude(test)))
    return _table("comparison | primary test | n | CAHP against | lead of CAHP, nats | result", rows)


def _conclude(test: Verdict) -> str:
    if test.better is None:
        return describe_tie(test).split(" (")[0]
    if test.better == test.against:
        return "CAHP is ahead"
    return "CAHP is behind"


def _critical() -> list[str]:
    """What CAHP and other methods keep of the criticality of the middle third, in each bundled comparison."""
    rows = []
    for name in _bundled():
        results = _read(name).results
        for budget in results.budgets:
            shares = kept_shares(results.document, budget)
            compared = compare_shares(shares, results.against)
            if RANDOM not in compared:
                continue
            random = compared.pop(RANDOM)
            sides: dict[str, list[str]] = {"less": [], "more": [], "neither": []}
            for method, one in compared.items():
                side = "neither"
                if one.significant:
                    side = "less" if one.lead.value > 0 else "more"
                sides[side].append(f"`{method}` {_share(shares, method)}")
            lead = f"{_share(shares, RANDOM)} ({_cell(random.lead)}, {write_p(random.p_holm)})"
            others = (", ".join(found) for found in sides.values())
            rows.append((f"`{name}`", budget, _share(shares, results.against), lead, *others))
    titles = "comparison | heads | CAHP keeps | random selection (CAHP's lead, points) | keep less | keep more"
    return _table(f"{titles} | not significant", rows)


def _share(shares: pd.DataFrame, method: str) -> str:
    return percent(float(shares.loc[shares["method"] == method, "middle"].mean()), 0)


def _change(comparison: str, recovery: str, budget: int, method: str, outcome: str) -> Estimate:
    """How a recovery changes an outcome against the refit of the same masks."""
    read, scale = _read(comparison), 1.0 if outcome == "kl" else 100.0
    # Files hold half precision, in which differences and means are rounded by more than what is printed.
    values = tabulate(read.answers["eval"], read.document.full[0].recoveries["none"].row)[outcome].values
    table = values.astype(np.float64) * scale
    changes: dict[int, list[NDArray[np.float64]]] = {}
    for cell in read.document.finished:
        rows = [cell.recoveries[name].row for name in (recovery, "refit") if name in cell.recoveries]
        if (cell.method, cell.budget.attained) == (method, budget) and len(rows) == 2:
            changes.setdefault(cell.seed, []).append(table[rows[0]] - table[rows[1]])
    change = crossed_mean(np.array([np.mean(of_seed, axis=0) for of_seed in changes.values()]))
    return Estimate(change.mean, (change.low, change.high), table.shape[1], "nats" if outcome == "kl" else "points")


def _against_refit(*comparisons: str, names: Collection[str] = RECOVERIES) -> list[str]:
    """What recoveries (all, or ``names``) change against the refit, by the first of comparisons that measured it."""
    shown = set(names) - {"refit"}
    places = {place: one for one in reversed(comparisons) for place in _places(one) if place[0] in shown}
    order = dict.fromkeys(place for one in comparisons for place in _places(one) if place in places)
    return _table(
        "recovery | heads | method | KL divergence, nats | agreement, points | accuracy, points",
        ((*_row(*place), *(_cell(_change(places[place], *place, name)) for name in SHOWN)) for place in order),
    )


def type_row(kind: str, model: HeadModel) -> str:
    """Return the row of a model type in the table of types; ``model`` is a loaded model of that type."""
    family, card = model.family, model.card
    restrictions = {
        "no refit": card.no_refit,
        "refit of the attention output only": not card.no_refit and len(family.refits) == 1,
        "maps are read, not edited": not family.edits,
        "no cut, so no compact or ONNX export": family.no_cut,
        "no ONNX export": card.no_onnx,
        "rows are its attention layers": card.places,
    }
    units = "key-value groups" if card.group > 1 else "heads"
    restricted = "; ".join(words for words, holds in restrictions.items() if holds)
    return f"| {kind} | {family.matched or 'by name'} | {units} | {restricted} |"


def _types() -> list[str]:
    import zoo

    from cahp import models
    from cahp.models.cards import REFUSED

    lines = ["| type | matched | counted | restricted |", "|---|---|---|---|"]
    for kind in sorted(set(zoo.TYPES) - set(REFUSED)):
        with TemporaryDirectory() as folder:
            lines.append(type_row(kind, models.load(str(zoo.save(Path(folder) / "model", kind, seed=3)), device="cpu")))
    return lines


def _correlation(one: Mapping[str, Any]) -> str:
    low, high = one["ci95"]
    return f"{number(one['value'], 2)} [{number(low, 2)}, {number(high, 2)}]"


def _redundancy() -> list[str]:
    """The rank correlations of measures of redundancy with the cost of removal, of each bundled test that has them."""
    shown = [document for document in _bundled_premises() if "measures" in document]
    words = {"alone": "one head", "pairs": "two heads"}
    head = ["measure", *(f"`{document['model']}`, {words[kind]}" for document in shown for kind in words)]
    return _table(
        " | ".join(head),
        (
            (label, *(_correlation(document["measures"][name][kind]) for document in shown for kind in words))
            for name, label in MEASURES.items()
        ),
    )


def _bundled_premises() -> list[dict[str, Any]]:
    return [json.loads(file.read_text("utf-8")) for file in sorted((ROOT / "assets/premise").glob("*.json"))]


def _premise() -> list[str]:
    """What each bundled test of the premise found, in nats and per cent."""
    documents = _bundled_premises()

    def show(part: str, name: str, document: Mapping[str, Any]) -> str:
        estimate = read_estimate(document[part][name])
        return _cell(estimate)

    def show_difference(document: Mapping[str, Any]) -> str:
        difference = document["interaction"]["difference"]
        return f"{show('interaction', 'difference', document)}, {p_value(difference['p'], difference['permutations'])}"

    rows: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("pairs within and between clusters", lambda found: " and ".join(f"{n:,}" for n in found["pairs"].values())),
        ("KL divergence (nats) without one head, mean", lambda found: number(found["alone"]["value"], 4)),
        ("interaction within clusters", partial(show, "interaction", "within")),
        ("interaction between clusters", partial(show, "interaction", "between")),
        ("difference", show_difference),
        ("verdict", lambda found: found["verdict"]),
        ("R², from the representative, %", partial(show, "r2", "representative")),
        ("R², from a random head, %", partial(show, "r2", "random")),
        ("R², from a head of the same layer, %", partial(show, "r2", "same_layer")),
    ]
    head = ["", *(f"`{document['model']}`, {document['data']}" for document in documents)]
    return _table(" | ".join(head), ((label, *map(describe, documents)) for label, describe in rows))


def _premise_control() -> list[str]:
    """What the positive control found."""
    lines: list[str] = []
    for file in sorted((ROOT / "assets/premise/control").glob("*.json")):
        document = json.loads(file.read_text("utf-8"))
        found = describe_control(document["control"])
        lines += wrap(
            f"{found} Measured on {document['model']}, {document['texts']} texts.", 120, break_on_hyphens=False
        )
    return lines


def _all_mix_runs() -> list[dict[str, Any]]:
    """The bundled runs with several calibration mixes, methods and minima of the first layers."""
    document = json.loads((ROOT / "assets" / "mix" / "smollm2.json").read_text(encoding="utf-8"))
    runs: list[dict[str, Any]] = document["runs"]
    return runs


def mix_runs() -> list[dict[str, Any]]:
    """The bundled runs of ``obs-fisher`` with several calibration mixes."""
    arm = ("obs-fisher", 0, 0)
    return [run for run in _all_mix_runs() if _arm_of(run)[:3] == arm]


def _arm_of(run: Mapping[str, Any]) -> tuple[Any, ...]:
    return run["method"], run["min_first_layers"], run["untouched"], run["mix"]


def _premise_refitted() -> list[str]:
    """How far measures predict the cost of a head after the refit, of each bundled test that has it."""
    lines: list[str] = []
    for document in _bundled_premises():
        if "refitted" in document:
            found = describe_predictors(document["refitted"])
            lines += wrap(f"`{document['model']}`: {found}", 120, break_on_hyphens=False)
    return lines


#: What the default mix changes: words, and the value of a run.
_CHANGED: tuple[tuple[str, Callable[[Mapping[str, Any]], float]], ...] = (
    ("KL after refit", lambda run: float(run["outcomes"]["recovered"]["kl"]["value"])),
    ("second reading of a passage", lambda run: _rise(run, "repeats_text")),
    ("of random tokens", lambda run: _rise(run, "repeats_random")),
)


def _rise(run: Mapping[str, Any], ability: str) -> float:
    """How much the loss of a second reading is above the full model's after the recovery, in nats."""
    (row,) = (row for row in run["abilities"]["rows"] if row["name"] == ability)
    losses = row["losses"]
    return float(losses["recovered"]["value"] - losses["full"]["value"])


def _word_of(run: Mapping[str, Any], ability: str) -> str:
    """The word of the receipt for an ability after the recovery."""
    (row,) = (row for row in run["abilities"]["rows"] if row["name"] == ability)
    return str(row["recovered"]["word"])


def _changes_by_mix(budget: int, read: Callable[[Mapping[str, Any]], float]) -> tuple[Floats, Floats]:
    """The values ``(seeds,)`` with text alone and with the default mix, of the seeds that have both.

    The default was chosen on the first seed, which therefore confirms nothing.
    """
    values = {(run["seed"], run["mix"]): read(run) for run in mix_runs() if run["budget"] == budget}
    both = {seed for seed, _ in values if (seed, "0") in values and (seed, Settings.mix) in values}
    seeds = sorted(both - {Settings.seed})
    plain, mixed = (np.array([values[seed, mix] for seed in seeds]) for mix in ("0", Settings.mix))
    return plain, mixed


def _confirmed_mixes() -> list[str]:
    """What the default mix changes, over seeds."""
    rows: list[tuple[object, ...]] = []
    for budget in (72, 45):
        for words, read in _CHANGED:
            plain, mixed = _changes_by_mix(budget, read)
            if len(plain) > 1:
                means = [_over_seeds(values) for values in (plain, mixed, mixed - plain)]
                rows.append((budget, words, len(plain), *means))
    return _table("groups | nats | seeds | text alone | 25 % repeats | difference", rows)


def _name_mix(mix: str) -> str:
    """Name a share of what is read twice."""
    if mix == "0":
        return "text alone"
    return mix.removeprefix("repeats=").replace("%", " %")


def _mix_arms() -> list[str]:
    """What other methods, mixes and a minimum of the first layers give at 72 groups, and against the default mix."""
    arms: dict[tuple[Any, ...], dict[int, Mapping[str, Any]]] = {}
    for one in _all_mix_runs():
        if one["budget"] == 72 and one["seed"] != Settings.seed:
            arms.setdefault(_arm_of(one), {})[one["seed"]] = one
    default = arms["obs-fisher", 0, 0, Settings.mix]
    rows: list[tuple[object, ...]] = []
    for (method, floor, untouched, mix), runs in arms.items():
        seeds = sorted(runs)
        name = f"`{method}`"
        if floor:
            name += f", `--min-first-layers {floor}`"
        if untouched:
            name += ", layer 0 not refitted"
        cells = [_over_seeds(np.array([read(runs[seed]) for seed in seeds])) for _, read in _CHANGED]
        difference = "reference"
        if runs is not default:
            read = _CHANGED[0][1]
            difference = _over_seeds(np.array([read(runs[seed]) - read(default[seed]) for seed in seeds]))
        words = [_word_of(runs[seed], "repeats_text") for seed in seeds]
        kept = f"{words.count('kept')} of {len(seeds)}"
        rows.append((name, _name_mix(mix), *cells, kept, difference))
    head = (
        "method | repeats | KL after refit | second reading of a passage | of random tokens | text repeated: kept | "
        "KL difference"
    )
    return _table(head, rows)


def _over_seeds(values: Floats) -> str:
    mean = crossed_mean(values[:, None])
    return f"{number(mean.mean, 3)} [{number(mean.low, 3)}, {number(mean.high, 3)}]"


def _mix_verdict() -> list[str]:
    """The two primary tests at 72 groups, one-sided t tests over seeds, corrected by Holm."""
    from scipy.stats import ttest_1samp

    plain, mixed = _changes_by_mix(72, _CHANGED[0][1])
    margin = max(0.01, 0.05 * float(plain.mean()))
    no_worse = float(ttest_1samp(mixed - plain - margin, 0, alternative="less").pvalue)
    before, after = _changes_by_mix(72, _CHANGED[1][1])
    better = float(ttest_1samp(after - before, 0, alternative="less").pvalue)
    found = holm_correction([no_worse, better])
    verdicts = []
    for words, p in zip((f"is not worse by {number(margin, 2)} nats", "is lower"), found, strict=True):
        shown = "shown" if p < 0.05 else "not shown"
        verdicts.append(f"{words}: {shown} ({write_p(p)})")
    return wrap(
        f"At 72 groups, over {len(plain)} seeds, corrected by Holm: KL divergence on news {verdicts[0]}; the loss of "
        f"the second reading of a passage {verdicts[1]}.",
        120,
        break_on_hyphens=False,
    )


def _distilled() -> list[str]:
    """What more tokens and minutes of distillation add to the refit of half of the groups."""
    document = json.loads((ROOT / "assets" / "mix" / "smollm2-distilled.json").read_text(encoding="utf-8"))
    run = document["run"]
    made = document["made"]
    (refitted,) = (
        one
        for one in mix_runs()
        if (one["seed"], one["mix"], one["budget"]) == (run["seed"], run["mix"], run["budget"])
    )
    found = []
    for one in (refitted, run):
        divergence = _cell(read_estimate(one["outcomes"]["recovered"]["kl"]))
        rises = [f"{_rise(one, ability):+.2f}" for ability in ("repeats_text", "repeats_random")]
        found.append(f"{divergence} nats of KL divergence, second readings {rises[0]} and {rises[1]} nats")
    verdict = "accepted"
    if not run["distill"]["accepted"]:
        verdict = "rejected"
    return wrap(
        f"More tokens and minutes: `--recover auto --recover-time {made['allowed']}` with {made['threads']} threads "
        f"({made['machine']}), {run['budget']} groups, seed {run['seed']}. The refit on 8,192 tokens leaves {found[0]} "
        f"(passages, random tokens, above the full model's). `auto` learns from as many windows as it has time "
        f"for ({run['distill']['examples']}, and {run['distill']['held_out']} that accept a recovery), and leaves "
        f"{found[1]}. Its distillation was {verdict}: {run['distill']['reason']}.",
        120,
        break_on_hyphens=False,
    )


def _mixes() -> list[str]:
    """What the share of repeats in the calibration does to KL divergence and abilities."""
    runs = [run for run in mix_runs() if run["seed"] == Settings.seed]
    rows: list[tuple[object, ...]] = []
    for arm in sorted(runs, key=lambda one: (-one["budget"], one["mix"])):
        abilities = {row["name"]: row for row in arm["abilities"]["rows"]}
        divergences = [_cell(read_estimate(arm["outcomes"][state]["kl"])) for state in ("pruned", "recovered")]
        readings: list[str] = []
        for name in ("repeats_text", "repeats_random"):
            after, full = (abilities[name]["losses"][state]["value"] for state in ("recovered", "full"))
            readings.append(f"{after:.2f} ({after - full:+.2f}), {abilities[name]['recovered']['word']}")
        rows.append((arm["budget"], _name_mix(arm["mix"]), *divergences, *readings))
    head = "groups | repeats | KL as pruned | KL after refit | second reading of a passage | of random tokens"
    return _table(head, rows)


def _perplexities() -> list[str]:
    """The perplexity of a language model and of its cuts on WikiText-2, by lm-evaluation-harness' protocol."""
    file = ROOT / "assets" / "perplexities" / "smollm2.json"
    if not file.exists():
        return ["Not measured yet."]
    document = json.loads(file.read_text(encoding="utf-8"))
    sizes = {name: np.array(values, dtype=np.float64) for name, values in document["documents"].items()}
    full, *cuts = sorted(document["models"], key=lambda one: (one["removed"], one["mix"] or ""))
    whole = np.array(full["loss"])
    rows: list[tuple[object, ...]] = []
    for one in (full, *cuts):
        loss = np.array(one["loss"])
        words = to_perplexity(estimate_ratio(loss, sizes["words"], 42))
        bits = estimate_ratio(loss / np.log(2), sizes["bytes"], 42, "bits")
        cells = ["", "", ""]
        if one is not full:
            rise = estimate_ratio(loss - whole, sizes["tokens"], 42)
            divergence = estimate_ratio(np.array(one["kl"]), sizes["tokens"], 42)
            cells = [_name_mix(one["mix"]), _cell(rise), _cell(divergence)]
        rows.append((f"{one['removed']} %", cells[0], _cell(words), _cell(bits), *cells[1:]))
    protocol = document["protocol"]
    part = {True: "The whole split", False: "The first articles"}[protocol["whole"]]
    head = "groups removed | repeats | word perplexity | bits per byte | rise of the loss, nats | KL divergence"
    return [
        f"{part}: {protocol['tokens']:,} tokens of {protocol['documents']} articles. Loss and KL divergence are those "
        "of a token, in nats.",
        "",
        *_table(head, rows),
    ]


#: The runs of a second family of language models, by the method that chose their heads.
GEMMA = ROOT / "assets" / "compare" / "gemma3-270m"


def _second_family() -> list[str]:
    """What the choice of heads costs Gemma 3 270M, by method, as pruned and after the refit."""
    runs = {}
    for method in ("obs-fisher", "complementary", "random"):
        content = json.loads((GEMMA / f"{method}.json").read_text(encoding="utf-8"))
        runs[method] = RunDocument.from_json(content)
    full = next(iter(runs.values())).outcomes["full"]
    rows: list[tuple[object, ...]] = [("all 72 heads", "", "", full["perplexity"].text, "", full["copying"].text)]
    for method, document in runs.items():
        pruned = document.outcomes["pruned"]
        after = document.outcomes["recovered"]
        rows.append(
            (
                f"`{method}`",
                _cell(pruned["kl"]),
                _cell(after["kl"]),
                after["perplexity"].text,
                _cell(after["agreement"]),
                after["copying"].text,
            )
        )
    head = "heads chosen by | KL as pruned | KL after refit | perplexity after refit | agreement after refit, %"
    return _table(f"{head} | loss on repeated random tokens, nats", rows)


def _peers_finding() -> list[str]:
    """Which way to shrink the cache of the bundled language model is nearest to it, and what removal has besides."""
    document = read_bundled("smollm2")
    if document is None:
        return []
    return wrap(f"**{capital(describe_winner(document))}.** {describe_gains(document)}.", 120)


#: The beginning of the sentence about the peers in the README, which names no winner before one is measured.
_AMONG = "Of the measured [ways to shrink the cache](assets/compare/README.md#other-ways-to-shrink-the-cache)"


def peers_sentence() -> str:
    """Return the finding about the peers for the README, in one sentence (empty: nothing is bundled)."""
    document = read_bundled("smollm2")
    if document is None:
        return ""
    finding, *_ = describe_winner(document).split("; ")
    return "\n".join(wrap(f"{_AMONG}, {finding}.", 120, break_on_hyphens=False))


def _peers() -> list[str]:
    """The ways to shrink the cache of the bundled language model, the finding first."""
    document = read_bundled("smollm2")
    if document is None:
        return []
    rows = (row.values() for row in table_rows(document))
    samples = f"Calibration samples: {len(document.seeds)} (seeds {', '.join(map(str, document.seeds))})."
    return [*_peers_finding(), "", *_table(" | ".join(PEER_COLUMNS), rows), "", samples]


def _read_checks() -> list[dict[str, Any]]:
    """The bundled checks of attribution."""
    files = sorted((ROOT / "assets" / "attribution").glob("*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def _attribution() -> list[str]:
    """How attribution agrees with exact removal, and what its first heads do, in each bundled check."""
    checks = _read_checks()
    rows = [(f"`{check['model']}`", *row) for check in checks for row in check["table"][1:]]
    return _table(f"model | {' | '.join(checks[0]['table'][0])}", rows)


def _attribution_findings() -> list[str]:
    """The rank correlation with exact removal of each bundled check."""
    lines: list[str] = []
    for check in _read_checks():
        lines += wrap(f"{check['findings'][0]}.", 120, initial_indent="- ", subsequent_indent="  ")
    return lines


def _read_quick_refits() -> list[dict[str, Any]]:
    """The measured quick refits of each bundled model, in the order of their files."""
    files = sorted((ROOT / "assets" / "quick-refits").glob("*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def _quick_refits() -> list[str]:
    """The KL divergence of some masks after each recovery in closed form."""
    rows = []
    for document in _read_quick_refits():
        for row in document["masks"][::4] + document["masks"][1::4]:
            cells = [_cell(read_estimate(row["kl"][how])) for how in ("none", "mean", "quick-refit", "refit")]
            chosen = {"complementary": "CAHP"}.get(row["method"], row["method"])
            rows.append((f"`{document['model']}`", row["budget"], chosen, *cells))
    rows.sort(key=lambda row: (row[0], row[1], row[2]))
    return _table("model | kept | chosen by | as pruned | mean ablation | quick refit | refit", rows)


def _quick_refits_findings() -> list[str]:
    """What share of a refit's gain a quick refit has, over all measured masks of each model."""
    lines: list[str] = []
    for document in _read_quick_refits():
        kl = {
            how: np.array([row["kl"][how]["value"] for row in document["masks"]]) for how in document["masks"][0]["kl"]
        }
        gain = kl["none"] - kl["refit"]
        # Of a gain that is hardly there, a share says nothing.
        clear = gain > 0.01
        shares = (kl["none"] - kl["quick-refit"])[clear] / gain[clear]
        worse = int((kl["mean"] > kl["none"]).sum())
        median, least, most = (percent(float(share), 0) for share in np.quantile(shares, (0.5, 0, 1)))
        line = (
            f"`{document['model']}`, {len(gain)} masks: of what a refit gains, a quick refit gains {median} (median of "
            f"the {clear.sum()} masks at which a refit gains more than 0.01 nats; {least} to {most}). Mean ablation is "
            f"worse than the model as pruned at {worse} of {len(gain)}."
        )
        lines += wrap(line, 120, initial_indent="- ", subsequent_indent="  ")
    return lines


#: The tables that come from code: their mark, their page, and the function that makes their lines.
TABLES: Mapping[str, tuple[str, Callable[[], list[str]]]] = {
    "commands": ("assets/docs/install.md", _commands),
    "outcomes": ("assets/docs/python.md", _outcomes),
    "forms": ("assets/docs/export.md", _forms),
    "runs-in": ("assets/docs/export.md", _runs_in),
    "mask-forms": ("assets/docs/export.md", _mask_forms),
    "recoveries": ("assets/docs/recovery.md", _recoveries),
    "methods": ("assets/docs/comparison.md", _methods),
    "presets": ("assets/docs/comparison.md", _presets),
    "premise": ("assets/docs/comparison.md", _premise),
    "premise-control": ("assets/docs/comparison.md", _premise_control),
    "premise-refitted": ("assets/docs/comparison.md", _premise_refitted),
    "attribution": ("assets/docs/comparison.md", _attribution),
    "attribution-findings": ("assets/docs/comparison.md", _attribution_findings),
    "redundancy": ("assets/docs/comparison.md", _redundancy),
    "first": ("README.md", _readme),
    "bbc": ("assets/compare/README.md", _bbc),
    "primary": ("assets/compare/README.md", _primary),
    "critical": ("assets/compare/README.md", _critical),
    "mixes": ("assets/docs/language-models.md", _mixes),
    "mixes-confirmed": ("assets/docs/language-models.md", _confirmed_mixes),
    "mixes-distilled": ("assets/docs/language-models.md", _distilled),
    "mixes-arms": ("assets/docs/language-models.md", _mix_arms),
    "mixes-verdict": ("assets/docs/language-models.md", _mix_verdict),
    "quick-refits": ("assets/docs/recovery.md", _quick_refits),
    "quick-refits-findings": ("assets/docs/recovery.md", _quick_refits_findings),
    "perplexities": ("assets/compare/README.md", _perplexities),
    "peers": ("assets/compare/README.md", _peers),
    "gemma": ("assets/compare/README.md", _second_family),
    "peers-finding": ("assets/docs/language-models.md", _peers_finding),
    "sst5": ("assets/compare/README.md", lambda: _ranked("minilm-sst5", 12)),
    "sst5-6": ("assets/compare/README.md", lambda: _ranked("minilm-sst5", 6)),
    "sst5-20": ("assets/compare/README.md", lambda: _ranked("minilm-sst5", 20)),
    "sst5-trained": ("assets/compare/README.md", lambda: _measured("minilm-sst5", "distill", "finetune")),
    "sst5-recovered": ("assets/docs/recovery.md", lambda: _against_refit("minilm-sst5", names=("distill", "finetune"))),
    "sst5-tested": ("assets/compare/README.md", lambda: _ranked("minilm-sst5-tested", 12)),
    "smollm2": ("assets/compare/README.md", lambda: _ranked("smollm2", 72)),
    "smollm2-45": ("assets/compare/README.md", lambda: _ranked("smollm2", 45)),
    "mnli": ("assets/compare/README.md", lambda: _measured("minilm-mnli")),
    "mnli-random": ("assets/compare/README.md", lambda: _against_random("minilm-mnli")),
    "recovered": ("assets/docs/recovery.md", lambda: _against_refit("minilm-mnli", "minilm-mnli-recovered")),
}


def marked(page: str, mark: str) -> str:
    """Return the text between the marks ``<!-- mark -->`` and ``<!-- /mark -->`` of a page."""
    return PAGES[page].split(f"<!-- {mark} -->\n")[1].split(f"<!-- /{mark} -->")[0]


def write(page: str, start: str, text: str, end: str) -> None:
    """Write ``text`` into a page between ``start`` and ``end``."""
    before, rest = (ROOT / page).read_text(encoding="utf-8").split(start, 1)
    lines = text and f"{text}\n"
    (ROOT / page).write_text(f"{before}{start}{lines}{end}{rest.split(end, 1)[1]}", encoding="utf-8")


def write_readme() -> None:
    """Write the numbers of types and methods, and the forms of a mask, into the README."""
    types = len(marked("assets/docs/models.md", "types").splitlines()) - 2
    text = re.sub(r"\[\d+ types\]", f"[{types} types]", (ROOT / "README.md").read_text(encoding="utf-8"))
    text = re.sub(r"\d+ methods exist", f"{len(methods.names())} methods exist", text)
    if peers_sentence():
        text = re.sub(rf"^{re.escape(_AMONG)}.+?\n\n", f"{peers_sentence()}\n\n", text, flags=re.DOTALL | re.MULTILINE)
    forms = ", ".join(f"`{form.key}`" for form in formats.mask_forms())
    text = re.sub(r"\| .+ \| the mask alone \|", f"| {forms} | the mask alone |", text)
    text = re.sub(r"https://[^\s>)]+/cahp-explorer(?=>|/issues\))", address(), text)
    (ROOT / "README.md").write_text(text, encoding="utf-8")


def _output(*words: str) -> str:
    with TemporaryDirectory() as folder:
        line = [sys.executable, "-m", "cahp", *words, "--quiet"]
        return run(line, cwd=folder, check=True, capture_output=True, text=True).stdout.rstrip()


#: The files that name the project's address, besides ``pyproject.toml``, which is the source.
ADDRESSED = ("CITATION.cff", ".github/ISSUE_TEMPLATE/config.yml")


def address() -> str:
    """Return the address of the project."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    return str(urls["Repository"])


def addressed(file: str) -> str:
    """Return a file with the project's address in it."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return re.sub(r"(repository-code|url): https://\S+/cahp-explorer$", rf"\1: {address()}", text, flags=re.MULTILINE)


def guide_for_models() -> str:
    """Return ``llms.txt``: what the project is, and the pages of its guide with their sections."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [
        f"# {PAGES['README.md'].splitlines()[0].lstrip('# ')}",
        "",
        f"> {project['description']}",
        "",
        "## Guide",
        "",
    ]
    for page, text in PAGES.items():
        title, *sections = re.findall(r"^#{1,2} (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
        lines.append(f"- [{title}]({address()}/blob/main/{page}): {' · '.join(sections)}".rstrip(": "))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write what comes from code, and on request the types and the outputs, into their pages."""
    for mark, (page, lines) in TABLES.items():
        write(page, f"<!-- {mark} -->\n", "\n".join(lines()), f"<!-- /{mark} -->")
    if "--types" in sys.argv:
        write("assets/docs/models.md", "<!-- types -->\n", "\n".join(_types()), "<!-- /types -->")
        PAGES["assets/docs/models.md"] = (ROOT / "assets/docs/models.md").read_text(encoding="utf-8")
    write_readme()
    for file in ADDRESSED:
        (ROOT / file).write_text(addressed(file), encoding="utf-8")
    (ROOT / "llms.txt").write_text(guide_for_models(), encoding="utf-8")
    if "--run" in sys.argv:
        (command,) = (words for page, words, _ in outputs() if page == "README.md")
        write("README.md", "```text\n", _output(*command, "--no-cache"), "```")
    if "--bench" in sys.argv:
        write(
            "assets/docs/performance.md",
            "<!-- bench -->\n```\n",
            "\n".join(benchmark.words(benchmark.measure(Settings()))),
            "```\n<!-- /bench -->",
        )


if __name__ == "__main__":
    main()
