import time
from dataclasses import replace

import pytest

from cahp.api import bundled, preflight
from cahp.run.bench import Bench
from cahp.run.settings import Settings
from cahp.ui.session import work
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import Source
from cahp.ui.session.work import RUN, recovery_seconds

#: Seconds before the end in which rounding and polling are a large part of what is left.
LAST_S = 5.0


def bench(settings: Settings) -> Bench:
    return Source.open(settings).bench


def test_a_timed_recovery_takes_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "estimate_seconds", lambda card, *, tokens: 1000.0)
    monkeypatch.setattr(work, "estimate_seconds", lambda card, *, tokens: 1000.0)
    monkeypatch.setattr(work, "is_loaded", lambda card, *, device: True)
    limited = bench(replace(bundled.RUNS["minilm-bbc"], recover="auto", recover_time="90s"))
    # A refit, the full model's predictions, a training of 90 s, and the evaluation.
    assert recovery_seconds(limited, "auto") == 1000 + 1000 + 90 + 1000


@pytest.mark.nightly
@pytest.mark.slow
def test_the_time_left_of_a_run_is_within_a_factor_of_one_and_a_half_of_the_truth() -> None:
    explorer = Explorer("one person", Source.open(bundled.RUNS["minilm-bbc"]))
    explorer.work.start(RUN, explorer.bench)
    job = explorer.work.job(RUN)
    told = []
    while not job.ended:
        told.append((time.monotonic(), job.seconds_left))
        time.sleep(0.5)
    end = time.monotonic()
    assert (job.state, job.error) == ("done", None)
    ratios = [left / (end - now) for now, left in told if left is not None and end - now > LAST_S]
    assert ratios
    print(f"a run of {end - told[0][0]:.0f} s: announced {min(ratios):.2f} to {max(ratios):.2f} of the true time left")
    assert min(ratios) > 1 / 1.5
    assert max(ratios) < 1.5
