"""What the server makes before anybody comes, so that the first fifty people do not make it all at once."""

from __future__ import annotations

import gc
import logging

from cahp import bundled
from cahp.ui.session import jobs, lifetime
from cahp.ui.session.opening import Source
from cahp.ui.session.results import Results
from cahp.ui.session.work import run_seconds
from cahp.values import CahpError


def prepare() -> None:
    """Read what all sessions begin with, load what draws it, and look after memory from then on."""
    try:
        _read()
    except CahpError:
        # What is missing is said by the page that misses it.
        pass
    except Exception as error:
        # A page that breaks says so to whoever opens it; the other pages are there all the same.
        logging.getLogger(__name__).warning("not everything could be prepared: %s", type(error).__name__)
    # What stays for good need not be walked by every collection of garbage. Never again later: what sessions have then
    # would stay for good as well.
    gc.collect()
    gc.freeze()
    lifetime.start_cleaning(jobs.cancel_abandoned)


def _read() -> None:
    # Plotly looks whether pandas is there, and breaks where another session's table is just importing it.
    import pandas  # noqa: F401
    import plotly.graph_objects as go

    go.Figure(go.Scatter()).to_json()
    bundled.read_comparisons(bundled.comparisons_folder())
    bench = Source.open(bundled.SETTINGS).bench
    Results.load(bench).table(bundled.SETTINGS)
    run_seconds(bench)
