"""What each step of a recovery brought, as sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import streamlit as st

from cahp.run.ladder import RecoveryStep
from cahp.words import STEPS, duration, percent, points, span


def draw(steps: Sequence[RecoveryStep]) -> None:
    """A line for each step; nothing where there are none."""
    if steps:
        texts = steps[0].metrics.n
        st.markdown(f"**What each step brought** ({texts:,} evaluation texts, 95 % intervals)")
        st.markdown("\n".join(f"- {line}" for line in lines(steps)))


def lines(steps: Sequence[RecoveryStep]) -> Iterator[str]:
    """The lines, without a mark before them."""
    for one in steps:
        metrics, gained = one.metrics, one.gained
        low, high = (end * 100 for end in metrics.ci95)
        said = (
            f"{STEPS[one.step]}: {percent(metrics.accuracy)} right ({span(low, high)}), "
            f"{percent(metrics.agreement)} answered as with all heads"
        )
        if one.accepted is False:
            said += "; not taken, so nothing changed"
        elif gained is not None:
            said += f"; {points(gained.pp)} ({span(*gained.ci95)})"
        if one.seconds is not None:
            said += f", in {duration(one.seconds)}"
        yield said
