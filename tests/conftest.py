from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from hub import Hub

    from cahp.models.head_model import HeadModel
    from cahp.run.bench import Bench
    from cahp.store import Store

# Before anything imports the libraries that read these once; processes that a test starts inherit them.
# No test needs the network.
os.environ["HF_HUB_OFFLINE"] = "1"
# Threads that wait for each other cost tiny models ten times what they compute on a busy machine, and the tests already
# use every core where they run in several processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Importing PyTorch makes a million objects that stay: looking for garbage among them takes a third of the time in which
# the tests are collected.
gc.set_threshold(100_000)

# A shell starts what it runs in the background with Ctrl-C ignored, and tests that press it would wait for nothing.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The machine may be busy with other things, so no example has a deadline; and CI tries the same examples every time,
# so that a failure there is the commit's.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_collection_finish() -> None:
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the tests out of the person's cache, and the cache's old results out of the tests."""
    os.environ["CAHP_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def _read_once() -> Iterator[None]:
    """What every new session reads of this machine stays as it is: components in all packages, digests of weights."""
    from cahp.models import identity, weights

    @cache
    def digest(path: Path, size: int, changed: int) -> str:
        return weights.file_digest(path)

    def file_digest(path: Path) -> str:
        if not path.is_file():
            return weights.file_digest(path)
        stat = path.stat()
        return digest(path, stat.st_size, stat.st_mtime_ns)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity, "file_digest", file_digest)
        if find_spec("streamlit") is not None:
            from streamlit.components.v2 import manifest_scanner

            found = cache(manifest_scanner.scan_component_manifests)
            patch.setattr(manifest_scanner, "scan_component_manifests", lambda: list(found()))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_guard() -> None:
    """Pages are drawn without a server here, so no guard can be active."""
    from cahp.access import enforced

    enforced.set()


@pytest.fixture(scope="module", autouse=True)
def _no_work_left() -> Iterator[None]:
    """Cancel what a module's pages are still at: without a server no session ends, and later modules would wait."""
    yield
    jobs = sys.modules.get("cahp.ui.session.jobs")
    if jobs is None:
        return
    for job in jobs._worker.unfinished():
        job.cancel()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For tiny models: threads that wait for each other cost them ten times what they compute on a busy machine."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(limits=1):
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    from cahp.store import Store

    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> HeadModel:
    """A tiny classifier of 3 layers with 4 heads each."""
    import fakes

    from cahp import models

    return models.load(str(fakes.save_model(tmp_path_factory.mktemp("models") / "tiny")), device="cpu")


@pytest.fixture(scope="module")
def small_bench(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Three layers of four heads on sixty texts, evaluated on forty."""
    import fakes

    from cahp.run.bench import open_bench
    from cahp.store import Store

    folder = tmp_path_factory.mktemp("bench")
    return open_bench(fakes.quick_task(folder, limit=60, eval_limit=40), store=Store(folder / "store"))


@pytest.fixture(scope="session")
def window_bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A language model of three layers of four heads, on forty windows of tokens, evaluated on ten."""
    import fakes

    from cahp.run.bench import open_bench
    from cahp.store import Store

    folder = tmp_path_factory.mktemp("windows")
    (folder / "texts.txt").write_text("\n\n".join(fakes.sentences(300).first))
    model = fakes.teach(fakes.save_language_model(folder / "model", family="llama"))
    windows = {"window": 16, "tokens": 640, "eval_tokens": 160}
    settings = fakes.quick(model, folder / "texts.txt", **windows, budget="6")
    return open_bench(settings, store=Store(folder / "store"))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A small hub on this machine, which this process asks."""
    from hub import asked_here, serving

    with serving() as hub, asked_here(hub, tmp_path / "hf"):
        yield hub


@pytest.fixture
def read_back_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read exported models back in the test's own process, which takes no seconds."""
    import fakes

    from cahp.models import saving

    monkeypatch.setattr(saving, "in_new_process", fakes.in_this_process)


@pytest.fixture
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else runs here: no timing of this process counts as disturbed, so that all of them are kept."""
    from cahp.models import cards

    monkeypatch.setattr(cards, "NOISY", float("inf"))


#: What this process began with.
MAIN = sys.modules["__main__"]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip browser tests where there is no Chromium; in CI that is a failure."""
    # A test of a page leaves its script behind as the main one, which processes that are spawned later would run anew.
    sys.modules["__main__"] = MAIN
    if item.get_closest_marker("browser") is not None and chromium() is None:
        reason = "no Chromium on this machine; `make test` installs it on Debian as root"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


def chromium() -> Path | None:
    """The system's Chromium."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    return Path(found) if found else None
