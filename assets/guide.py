"""The README and the pages of ``assets/docs``: their commands and snippets, and the parts that come from code.

``.venv/bin/python assets/guide.py`` writes these parts into the pages again; ``tests/test_readme.py`` compares them.
With ``--run`` it also runs the first command of the README and writes its output there, with ``--bench`` the benchmark.
With ``--types`` it also loads a tiny model of each type and writes the table of types. ``--site`` writes the files from
which ``make docs`` builds a site, and nothing else.
"""

import inspect
import json
import os
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from functools import cache
from importlib import import_module
from pathlib import Path
from subprocess import run
from tempfile import TemporaryDirectory

import look_up
from look_up import table

import cahp
from cahp import methods
from cahp.api import bundled
from cahp.comparison import Comparison, SplitResults, claims
from cahp.comparison.plan import LANGUAGE, PRESETS
from cahp.comparison.sentences import count_texts, describe_p, describe_result
from cahp.comparison.summary import Primary
from cahp.exports import formats
from cahp.exports.form import ModelForm
from cahp.outcomes import OUTCOMES
from cahp.recoveries import RECOVERIES
from cahp.run.settings import Settings, describe, flags
from cahp.values import Estimate
from cahp.words import percent

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "assets").rglob("*.md")))
    # Not a page of the guide: the front page of a Space.
    if path.parent.name != "space"
}
GROUP = look_up.GROUP
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def list_blocks(page: str) -> list[tuple[str, str]]:
    """Return the fenced blocks of a page, each with its language; commands have none."""
    return _BLOCK.findall(PAGES[page])


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a page in one language."""
    return [text for found, text in list_blocks(page) if found == language]


def outputs() -> list[tuple[str, list[str], str]]:
    """Return each output that is shown: its page, the command before it, and the output."""
    shown = re.compile(r"^```\n([^`]*)```\n\n```text\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [
        (page, shlex.split(lines.strip().splitlines()[-1], comments=True)[1:], output)
        for page, text in PAGES.items()
        for lines, output in shown.findall(text)
    ]


def _form(form: ModelForm) -> tuple[str, ...]:
    extra = f" (extra `{form.extra}`)" if form.extra else ""
    return (f"`{form.key}`", f"{form.loads_with}{extra}", form.size, form.speed, form.exactness, form.needs_model)


def _method(name: str) -> tuple[str, str, str]:
    """The name, the first sentence and the source of a method, as its docstring says them."""
    words = type(methods.get(name)).__doc__ or ""
    (source,) = re.findall(r"Source: (.*?)\. Cost: ", " ".join(words.split()))
    linked = re.sub(r"arXiv (\d{4}\.\d{5})", r"[\g<0>](https://arxiv.org/abs/\1)", source)
    linked = re.sub(r"openreview\.net/\S+?(?=\))", r"[OpenReview](https://\g<0>)", linked)
    return f"`{name}`", words.strip().splitlines()[0], linked


def _preset(name: str) -> tuple[object, ...]:
    preset = PRESETS[name]
    sizes = f"{preset.limit:,} and {preset.eval_limit:,}"
    if name == LANGUAGE:
        sizes = f"{Settings.tokens:,} and {Settings.eval_tokens:,} tokens"
    recoveries = ", ".join(preset.recoveries)
    return f"`{name}`", len(preset.methods), ", ".join(preset.budgets), len(preset.seeds), sizes, recoveries


@cache
def read_comparison(name: str) -> Comparison:
    """Return a bundled comparison."""
    return Comparison.read(bundled.comparisons_folder() / name)


def _cell(estimate: Estimate) -> str:
    return f"{estimate.text.removesuffix(' %').removesuffix(' points')} {estimate.interval}"


def list_means(comparison: str, budget: int) -> dict[tuple[str, str], Mapping[str, Estimate]]:
    """Return the outcomes of a bundled comparison at a budget, by recovery and method."""
    means = read_comparison(comparison).results.means
    return {(recovery, name): mean.outcomes for (recovery, name, at), mean in means.items() if at == budget}


def _ranked(comparison: str, budget: int) -> list[str]:
    """The methods of a bundled comparison at a budget, by their KL divergence after the refit, with tests of CAHP."""
    results, means = read_comparison(comparison).results, list_means(comparison, budget)
    tests = {one.method: one for one in results.tests if (one.recovery, one.budget) == ("refit", budget)}
    shares = [name for name in ("agreement", "accuracy") if name in results.outcomes]
    named = {"none": "as pruned", "mean": "after mean ablation", "refit": "after refit"}
    recoveries = [name for name in named if name in results.document.recoveries]
    columns = ["method", *(f"KL {named[name]}" for name in recoveries), "CAHP's lead after refit"]
    rows = []
    for name in sorted(results.methods, key=lambda name: means["refit", name]["kl"].value):
        lead = ""
        if name in tests:
            lead = f"{_cell(tests[name].lead)}, {describe_p(tests[name].p_holm)}"
        row = [f"`{name}`", *(_cell(means[recovery, name]["kl"]) for recovery in recoveries), lead]
        rows.append(row + [_cell(means["refit", name][outcome]) for outcome in shares])
    return table(" | ".join(columns + [f"{name} after refit, %" for name in shares]), rows)


def _list_comparisons() -> Iterator[tuple[str, SplitResults, Primary]]:
    """Yield each bundled comparison of several methods with its name and its primary test."""
    for file in sorted(bundled.comparisons_folder().glob("*/compare.json")):
        results = read_comparison(file.parent.name).results
        if results.primary is not None and results.primary.tests:
            yield file.parent.name, results, results.primary


def _list_primary() -> Iterator[tuple[object, ...]]:
    """Yield the primary test of each bundled comparison against each method."""
    for name, results, primary in _list_comparisons():
        for test in primary.tests:
            n = count_texts(test, results.noun).removeprefix("n = ")
            result = re.sub(r"\(.*; ", "; ", describe_result(test)).removesuffix(")").replace(" ;", ";")
            if test.better is not None:
                result = "CAHP is ahead" if test.better == results.against else "CAHP is behind"
            lead = f"{test.lead.text} {test.lead.interval}, {describe_p(test.p_holm)}"
            yield f"`{name}`", primary.words, n, f"`{test.method}`", lead, result


def _list_critical() -> Iterator[tuple[object, ...]]:
    """Yield the share of the criticality that the methods of each bundled comparison keep at each number of heads."""
    for name, results, _ in _list_comparisons():
        for budget in results.budgets:
            shares = claims.kept_shares(results.document, budget)
            if shares.empty:
                continue
            means, tests = claims.compare_shares(shares, results.against)
            places: dict[str, list[str]] = {"less": [], "more": [], "tie": []}
            for method in (one for one in results.methods if one in tests and one != claims.RANDOM):
                place = "tie"
                if not tests[method].tie:
                    place = "less" if tests[method].better == results.against else "more"
                places[place].append(f"`{method}` {percent(means[method], 0)}")
            random = tests[claims.RANDOM]
            lead = f"{random.lead.text.removesuffix(' points')} {random.lead.interval}, {describe_p(random.p_holm)}"
            baseline = f"{percent(means[claims.RANDOM], 0)} (CAHP's lead {lead})"
            own = percent(means[results.against], 0)
            yield f"`{name}`", budget, own, baseline, *(", ".join(names) for names in places.values())


#: The tables that come from code: their mark, their head, and what makes their rows.
_FROM_CODE: Mapping[str, tuple[str, Callable[[], Iterable[Iterable[object]]]]] = {
    "commands": (
        "command | what it does",
        lambda: ((f"`cahp {name}`", one.get_short_help_str(200)) for name, one in look_up.COMMANDS.items()),
    ),
    "outcomes": (
        "outcome | meaning | unit | needs labels",
        lambda: ((f"`{row.name}`", row.label, row.unit, ("no", "yes")[row.needs_labels]) for row in OUTCOMES.values()),
    ),
    "forms": (
        "`--format` | loads with | size | speed | checked before it is written | for",
        lambda: map(_form, formats.model_forms()),
    ),
    "runs-in": (
        " | ".join(("`--format`", *(f"{name}, {version}" for name, version in formats.RUNTIMES.items()))),
        lambda: (
            (f"`{form.key}`", *(form.runs_in.get(name, formats.UNTRIED) for name in formats.RUNTIMES))
            for form in formats.model_forms()
        ),
    ),
    "mask-forms": (
        "`--format` | what it is | what reads it",
        lambda: ((f"`{form.key}`", form.words, form.loads) for form in formats.mask_forms()),
    ),
    "recoveries": (
        "`--recover` | what it does | labels | trains all weights",
        lambda: (
            (f"`{r.name}`", r.choice, ("no", "yes")[r.needs_labels], ("no", "yes")[r.trains])
            for r in RECOVERIES.values()
        ),
    ),
    "methods": (
        "method | how it chooses heads | source",
        lambda: map(_method, sorted(methods.names(), key=lambda name: (name != "complementary", name))),
    ),
    "presets": (
        "`--preset` | methods | heads kept | seeds | calibration and evaluation texts | recoveries",
        lambda: map(_preset, PRESETS),
    ),
    "primary": ("comparison | primary test | n | CAHP against | lead of CAHP, nats | result", _list_primary),
    "critical": (
        "comparison | heads | CAHP keeps | random selection, points | keep less | keep more | not significant",
        _list_critical,
    ),
}
#: The tables of bundled comparisons, by their mark.
_RANKED = {
    "sst5": ("minilm-sst5", 12),
    "sst5-6": ("minilm-sst5", 6),
    "sst5-20": ("minilm-sst5", 20),
    "sst5-tested": ("minilm-sst5-tested", 12),
    "bbc-seeds": ("minilm-bbc-20", 12),
    "sst5-seeds": ("minilm-sst5-16", 12),
    "smollm2": ("smollm2", 72),
    "smollm2-45": ("smollm2", 45),
}
#: Longer parts that come from code: their mark, and what makes their lines.
_PARTS: Mapping[str, Callable[[], list[str]]] = {
    "help": look_up.describe_commands,
    "options": look_up.list_options,
    "python": look_up.describe_python,
    "run": look_up.describe_run,
    "compare": look_up.describe_comparison,
}
#: The marks of all of them.
PARTS = (*_FROM_CODE, *_RANKED, *_PARTS)


def make_part(mark: str) -> list[str]:
    """Return the lines of a part that comes from code."""
    if mark in _RANKED:
        return _ranked(*_RANKED[mark])
    if mark in _PARTS:
        return _PARTS[mark]()
    head, rows = _FROM_CODE[mark]
    return table(head, rows())


def find_page(mark: str) -> str:
    """Return the page that has a mark."""
    (page,) = (page for page, text in PAGES.items() if f"<!-- {mark} -->" in text)
    return page


def marked(mark: str) -> str:
    """Return the text between the marks ``<!-- mark -->`` and ``<!-- /mark -->`` of a page."""
    return PAGES[find_page(mark)].split(f"<!-- {mark} -->\n")[1].split(f"<!-- /{mark} -->")[0]


def write_part(mark: str, lines: str) -> None:
    """Write a part into its page."""
    write(find_page(mark), f"<!-- {mark} -->\n", lines, f"<!-- /{mark} -->")


def write(page: str, start: str, text: str, end: str) -> None:
    """Write ``text`` into a page between ``start`` and ``end``."""
    before, rest = (ROOT / page).read_text(encoding="utf-8").split(start, 1)
    lines = text and f"{text}\n"
    (ROOT / page).write_text(f"{before}{start}{lines}{end}{rest.split(end, 1)[1]}", encoding="utf-8")


def write_readme() -> None:
    """Write the numbers of types and methods, and the forms of a mask, into the README."""
    types = len(marked("types").splitlines()) - 2
    text = re.sub(r"\[\d+ types\]", f"[{types} types]", (ROOT / "README.md").read_text(encoding="utf-8"))
    text = re.sub(r"\d+ methods exist", f"{len(methods.names())} methods exist", text)
    forms = ", ".join(f"`{form.key}`" for form in formats.mask_forms())
    text = re.sub(r"\| .+ \| the mask alone \|", f"| {forms} | the mask alone |", text)
    text = re.sub(r"https://[^\s>)]+/cahp-explorer(?=>|/issues\))", address(), text)
    (ROOT / "README.md").write_text(text, encoding="utf-8")


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
    title = PAGES["README.md"].splitlines()[0].lstrip("# ")
    lines = [f"# {title}", "", f"> {project['description']}", "", "## Guide", ""]
    for page, text in PAGES.items():
        title, *sections = re.findall(r"^#{1,2} (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
        lines.append(f"- [{title}]({address()}/blob/main/{page}): {' · '.join(sections)}".rstrip(": "))
    return "\n".join(lines) + "\n"


def keywords() -> str:
    """Return ``KEYWORDS`` with the fields that the calls take as keywords; its head and its docstrings stay."""
    head, *classes = (ROOT / KEYWORDS).read_text(encoding="utf-8").split("\n\n\nclass ")
    of_model = (cahp.evaluate, cahp.latency, cahp.recover, cahp.export, cahp.attribute)
    left = {entry.name: str(entry.type).replace("'", '"') for entry in fields(Settings)}
    del left["model"], left["data"]
    for place, functions in enumerate(((cahp.compare, cahp.fit), of_model, (cahp.prune,))):
        taken = {field for function in functions for field in flags(function.__name__)} & left.keys()
        if functions != (cahp.prune,):
            taken -= {own for function in functions for own in inspect.signature(function).parameters}
        classes[place] = classes[place].split('"""\n\n')[0] + '"""\n\n'
        for field in [field for field in left if field in taken]:
            # What a setting accepts beside its own type.
            more = {"heads": "str | int", "duration": "str | float"}.get(describe()[field].unit, "str")
            if field == "method":
                more = "str | Method | type[Method]"
            classes[place] += f"    {field}: {left.pop(field).replace('str', more)}\n"
    return "\n\n\nclass ".join([head, *(one.rstrip("\n") for one in classes)]) + "\n"


def write_site(folder: Path) -> None:
    """Write what the generator of the site reads: pages, pictures, and its settings with the pages in their order."""
    pages, pictures = ROOT / "assets" / "docs", ROOT / "assets" / "pictures"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(pictures, folder / "docs" / "pictures", ignore=shutil.ignore_patterns("*.py"))
    for page in pages.rglob("*.md"):

        def lead(found: re.Match[str], page: Path = page) -> str:
            """Lead a link out of the guide to the repository, and that to a picture to its copy."""
            path = (page.parent / found[2]).resolve()
            target = found[2]
            if path.is_relative_to(pictures):
                target = os.path.relpath(pages / "pictures" / path.name, page.parent)
            elif not path.is_relative_to(pages):
                target = f"{address()}/blob/main/{path.relative_to(ROOT).as_posix()}"
            return f"{found[1]}{target}{found[3]}"

        text = re.sub(r"(\]\()(?!https?:|#)([^)#]+)([)#])", lead, page.read_text(encoding="utf-8"))
        text = re.sub(r"""((?:src|srcset)=")(.+?)(")""", lead, text)
        copy = folder / "docs" / page.relative_to(pages)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text, encoding="utf-8")
    _, *doors = re.split("^## (.+)$", PAGES["assets/docs/index.md"], flags=re.MULTILINE)
    rows = ['"index.md"']
    for title, text in zip(doors[::2], doors[1::2], strict=True):
        linked = json.dumps(re.findall(r"\]\(([a-z][a-z/-]+[.]md)", text))
        rows.append(f"{{ {json.dumps(title)} = {linked} }}")
    settings = (ROOT / "assets" / "site.toml").read_text(encoding="utf-8")
    settings = settings.replace("[project]\n", f"[project]\nnav = [{', '.join(rows)}]\n")
    (folder / "zensical.toml").write_text(settings, encoding="utf-8")


def main() -> None:
    """Write what comes from code, and on request the types and the outputs, into their pages."""
    if "--site" in sys.argv:
        write_site(ROOT / "build" / "guide")
        return
    sys.path.append(str(ROOT / "tests"))
    for mark in PARTS:
        write_part(mark, "\n".join(make_part(mark)))
    if "--types" in sys.argv:
        write_part("types", "\n".join(import_module("zoo").types_table()))
    PAGES.update((page, (ROOT / page).read_text(encoding="utf-8")) for page in PAGES)
    write_readme()
    for file in ADDRESSED:
        (ROOT / file).write_text(addressed(file), encoding="utf-8")
    (ROOT / "llms.txt").write_text(guide_for_models(), encoding="utf-8")
    (ROOT / KEYWORDS).write_text(keywords(), encoding="utf-8")
    if "--run" in sys.argv:
        (command,) = (words for page, words, _ in outputs() if page == "README.md")
        line = [sys.executable, "-m", "cahp", *command, "--no-cache", "--quiet"]
        with TemporaryDirectory() as folder:
            done = run(line, cwd=folder, check=True, capture_output=True, text=True)
        write("README.md", "```text\n", done.stdout.rstrip(), "```")
    if "--bench" in sys.argv:
        benchmark = import_module("benchmark")
        words = benchmark.words(benchmark.measure(Settings()))
        write_part("bench", "\n".join(["```", *words, "```"]))


if __name__ == "__main__":
    main()
