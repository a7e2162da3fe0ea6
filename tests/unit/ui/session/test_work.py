import threading
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from cahp.run.bench import Bench
from cahp.run.settings import Settings
from cahp.tasks.texts import Texts
from cahp.ui.session import work
from cahp.ui.session.work import REPLACEABILITY, WARM, Kind, Work
from cahp.values import Progress
from cahp.values.statistics import Moments

PATIENCE = 60.0
#: A bench of which only the texts are known, by their digests.
TEXTS = cast(
    Bench,
    SimpleNamespace(
        card=SimpleNamespace(sha256="a model"),
        calibration=SimpleNamespace(sha256="chose"),
        evaluation=SimpleNamespace(sha256="evaluated"),
        settings=Settings(),
    ),
)


@pytest.fixture
def mine() -> Iterator[Work]:
    made = Work("one person")
    yield made
    made.close()


def waiting(gate: threading.Event, **options: Any) -> Kind[str, str]:
    """A kind of job that repeats its subject when the gate opens."""

    def wait(subject: str, progress: Progress) -> str:
        while not gate.wait(0.01):
            progress("evaluation", 0, 1)
        return subject

    return Kind(wait, lambda subject: f"wait-{subject}", **options)


def test_nobody_waits_for_an_older_job_of_a_kind_whose_newest_counts(mine: Work, gate: threading.Event) -> None:
    kind = waiting(gate, newest=True)
    first = mine.start(kind, "a")
    assert mine.start(kind, "a") is first
    assert first.state != "cancelled"
    mine.start(kind, "b")
    assert first.state == "cancelled"


def test_a_model_is_read_ahead_but_not_while_pages_are_drawn(mine: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    class Opened:
        card = SimpleNamespace(sha256="a model")
        settings = SimpleNamespace(device="cpu")
        evaluation = Texts((), None, np.zeros(0, dtype=np.int64), ("a", "b"))

        @property
        def full(self) -> list[str]:
            read.append("full")
            return []

        model = SimpleNamespace(layers=1)
        measurements = SimpleNamespace(prepare=lambda _: read.append("compared with"))
        recoveries = SimpleNamespace(no_refit=None, prepare_quick_refits=lambda: read.append("quick refits"))

    quiet = [False]
    monkeypatch.setattr(work, "is_quiet", lambda: quiet[0])
    job = mine.start(WARM, cast(Bench, Opened()))
    assert not job.wait(0.3)
    assert read == []
    quiet[0] = True
    assert job.wait(PATIENCE)
    assert job.state == "done"
    assert read == ["full", "compared with", "quick refits"]


def test_sessions_share_how_far_heads_replace_each_other(mine: Work) -> None:
    squares = np.eye(4, dtype=np.float32)[None]
    moments = Moments(squares, squares, np.ones((1, 2, 2)), heads=2, tokens=1)
    facts = {**vars(TEXTS), "card": SimpleNamespace(sha256="a model", layers=1, heads=2)}
    bench = cast(Bench, SimpleNamespace(**facts, evidence=SimpleNamespace(moments=moments)))
    kind = replace(REPLACEABILITY, seconds=lambda _: None)
    jobs = [work.start(kind, bench) for work in (mine, Work("another person"))]
    assert all(job.wait(PATIENCE) for job in jobs)
    assert jobs[0].result is not None
    assert jobs[0].result is jobs[1].result
