"""What each step of a recovery brought, as sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import streamlit as st

from cahp.run.recovery_steps import RecoveryStep
from cahp.words import duration


def draw(steps: Sequence[RecoveryStep]) -> None:
    """A line for each step; nothing where there are none."""
    if steps:
        texts = steps[0].outcomes["accuracy"].n
        st.markdown(f"**Accuracy after each step** ({texts:,} evaluation texts, 95 % intervals)")
        st.markdown("\n".join(f"- {line}" for line in lines(steps)))


def lines(steps: Sequence[RecoveryStep]) -> Iterator[str]:
    """The lines, without a mark before them."""
    for one in steps:
        accuracy, gained = one.outcomes["accuracy"], one.gained
        said = f"{one.result}: {accuracy.text} ({accuracy.span}), agreement {one.outcomes['agreement'].text}"
        if one.accepted is False:
            said += "; not taken, so nothing changed"
        elif gained is not None:
            said += f"; {gained.text} ({gained.span})"
        if one.seconds is not None:
            said += f", in {duration(one.seconds)}"
        yield said
