"""What the server makes before anybody comes, so that the first fifty people do not make it all at once."""

from __future__ import annotations

import gc
from contextlib import suppress

from cahp import bundled
from cahp.ui.session import memory
from cahp.ui.session.opening import Source
from cahp.ui.session.results import Results
from cahp.ui.session.work import run_seconds
from cahp.values import CahpError


def prepare() -> None:
    """Read what all sessions begin with, and load what draws it."""
    import plotly.graph_objects as go

    go.Figure(go.Scatter()).to_json()
    bundled.comparisons(bundled.comparisons_folder())
    # What is missing is said by the page that misses it.
    with suppress(CahpError):
        bench = Source.open(bundled.SETTINGS).bench
        Results.found(bench).table(bundled.SETTINGS)
        run_seconds(bench)
    # What stays for good need not be walked by every collection of garbage. Never again later: what sessions have then
    # would stay for good as well.
    gc.collect()
    gc.freeze()
    memory.look_after()
