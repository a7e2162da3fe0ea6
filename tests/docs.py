"""The README and the pages of ``assets/docs``: their commands and snippets, and the tables that come from code.

``.venv/bin/python tests/docs.py`` writes the tables into the pages again; ``tests/test_readme.py`` compares them. With
``--run`` it also runs the first command of the README and writes its output there, with ``--bench`` the benchmark. With
``--types`` it also loads a tiny model of each type and writes the table of types.
"""

from __future__ import annotations

import inspect
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from subprocess import run
from tempfile import TemporaryDirectory

import benchmark
import click
import typer
import zoo

import cahp
from cahp import cli, methods
from cahp.api import bundled
from cahp.comparison import Comparison
from cahp.comparison.plan import LANGUAGE, PRESETS
from cahp.comparison.sentences import describe_p
from cahp.comparison.statistics import Verdict
from cahp.exports import formats
from cahp.outcomes import OUTCOMES
from cahp.recoveries import RECOVERIES
from cahp.run.settings import Settings, describe, flags
from cahp.values import Estimate

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
                form.size,
                form.speed,
                form.exactness,
                form.needs_model,
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
        "`--preset` | methods | heads kept | seeds | calibration and evaluation texts | recoveries",
        (
            (
                f"`{name}`",
                len(preset.methods),
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


def _means(comparison: str, budget: int) -> dict[tuple[str, str], Mapping[str, Estimate]]:
    """The outcomes of a bundled comparison at a budget, by recovery and method."""
    means = _read(comparison).results.means
    return {(recovery, name): mean.outcomes for (recovery, name, at), mean in means.items() if at == budget}


def _ranked(comparison: str, budget: int) -> list[str]:
    """The methods of a bundled comparison at a budget, by their KL divergence after the refit, with tests of CAHP."""
    results, means = _read(comparison).results, _means(comparison, budget)
    tests = {one.method: one for one in results.tests if (one.recovery, one.budget) == ("refit", budget)}
    shares = [name for name in SHOWN[1:] if name in results.outcomes]
    columns = {
        recovery: words
        for recovery, words in (("none", "as pruned"), ("mean", "after mean ablation"), ("refit", "after refit"))
        if recovery in results.document.recoveries
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


def _difference(test: Verdict) -> str:
    return f"{_cell(test.lead)}, {describe_p(test.p_holm)}"


#: The tables that come from code and from the results of comparisons: their mark, their page, and the function that
#: makes their lines.
TABLES: Mapping[str, tuple[str, Callable[[], list[str]]]] = {
    "commands": ("assets/docs/install.md", _commands),
    "outcomes": ("assets/docs/python.md", _outcomes),
    "forms": ("assets/docs/export.md", _forms),
    "runs-in": ("assets/docs/export.md", _runs_in),
    "mask-forms": ("assets/docs/export.md", _mask_forms),
    "recoveries": ("assets/docs/recovery.md", _recoveries),
    "methods": ("assets/docs/comparison.md", _methods),
    "presets": ("assets/docs/comparison.md", _presets),
    "sst5": ("assets/compare/README.md", lambda: _ranked("minilm-sst5", 12)),
    "sst5-6": ("assets/compare/README.md", lambda: _ranked("minilm-sst5", 6)),
    "sst5-20": ("assets/compare/README.md", lambda: _ranked("minilm-sst5", 20)),
    "sst5-tested": ("assets/compare/README.md", lambda: _ranked("minilm-sst5-tested", 12)),
    "smollm2": ("assets/compare/README.md", lambda: _ranked("smollm2", 72)),
    "smollm2-45": ("assets/compare/README.md", lambda: _ranked("smollm2", 45)),
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
    forms = ", ".join(f"`{form.key}`" for form in formats.mask_forms())
    text = re.sub(r"\| .+ \| the mask alone \|", f"| {forms} | the mask alone |", text)
    text = re.sub(r"https://[^\s>)]+/cahp-explorer(?=>|/issues\))", address(), text)
    (ROOT / "README.md").write_text(text, encoding="utf-8")


def _output(*words: str) -> str:
    with TemporaryDirectory() as folder:
        line = [sys.executable, "-m", "cahp", *words, "--quiet"]
        return run(line, cwd=folder, check=True, capture_output=True, text=True).stdout.rstrip()


#: The module that this script writes.
KEYWORDS = "cahp/run/keywords.py"
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


def keywords() -> str:
    """Return ``cahp/run/keywords.py``: the fields that the calls take as keywords, with their types."""
    calls = {
        "DataOptions": ("what compares methods or trains a classifier", (cahp.compare, cahp.fit)),
        "ModelOptions": (
            "what is done with a model and a mask",
            (cahp.evaluate, cahp.latency, cahp.recover, cahp.export, cahp.attribute),
        ),
        "Options": ("a run besides its model and data; ``cahp.Settings`` has the defaults", (cahp.prune,)),
    }
    # What a setting accepts beside its own type.
    more = {"heads": "int", "duration": "float"}
    types = {entry.name: entry.type for entry in fields(Settings)}
    lines: list[str] = []
    base = "TypedDict"
    left = set(types) - {"model", "data"}
    for name, (purpose, functions) in calls.items():
        lines += ["", "", f"class {name}({base}, total=False):", f'    """Options of {purpose}."""', ""]
        taken = {field for function in functions for field in flags(function.__name__)}
        if name != "Options":
            taken -= {own for function in functions for own in inspect.signature(function).parameters}
        for field in types:
            if field in taken & left:
                kind = str(types[field]).replace("'", '"')
                accepted = more.get(describe()[field].unit)
                if accepted:
                    kind = kind.replace("str", f"str | {accepted}")
                lines.append(f"    {field}: {kind}")
        left -= taken
        base = name
    head = """\
\"\"\"The types of the keywords of ``cahp.prune`` and others, for editors. ``tests/docs.py`` writes this file.\"\"\"

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from cahp.models.cards import Dtype
from cahp.run.settings import Salience
from cahp.stages.clustering import Projection
from cahp.stages.selection import Representative
from cahp.tasks.answers import Beginning
"""
    return head + "\n".join(lines) + "\n"


def main() -> None:
    """Write what comes from code, and on request the types and the outputs, into their pages."""
    for mark, (page, lines) in TABLES.items():
        write(page, f"<!-- {mark} -->\n", "\n".join(lines()), f"<!-- /{mark} -->")
    if "--types" in sys.argv:
        write("assets/docs/models.md", "<!-- types -->\n", "\n".join(zoo.types_table()), "<!-- /types -->")
        PAGES["assets/docs/models.md"] = (ROOT / "assets/docs/models.md").read_text(encoding="utf-8")
    write_readme()
    for file in ADDRESSED:
        (ROOT / file).write_text(addressed(file), encoding="utf-8")
    (ROOT / "llms.txt").write_text(guide_for_models(), encoding="utf-8")
    (ROOT / KEYWORDS).write_text(keywords(), encoding="utf-8")
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
