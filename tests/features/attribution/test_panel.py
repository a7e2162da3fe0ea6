"""What the tab measures and draws of a person's own text, without a page."""

from __future__ import annotations

from dataclasses import replace

import fakes
import numpy as np
import pytest
import streamlit as st
from apps import open_part

from cahp.features.attribution.panel import (
    ATTRIBUTE,
    BY_TEXT,
    THIS_TEXT,
    AttributedText,
    _draw_heads,
    describe_contribution,
)
from cahp.features.attribution.result import Attribution, signed_nats
from cahp.show.blocks import Marks
from cahp.ui.parts.inputs import TOPIC
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import Source
from cahp.ui.session.work import RUN
from cahp.values import HeadMask

PATIENCE = 120.0
TEXT = "the film was very good"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Explorer:
    """An explorer that has made a run."""
    made = Explorer("reader", Source.open(fakes.quick_task(tmp_path_factory.mktemp("attribution"))))
    assert made.work.start(RUN, made.bench).wait(PATIENCE)
    made.collect()
    return made


@pytest.fixture(scope="module")
def result(explorer: Explorer) -> Attribution:
    asked = AttributedText(explorer.bench, TEXT, None)
    assert THIS_TEXT.know(explorer) is None
    explorer.memory["attribution.text"] = asked
    assert explorer.work.start(ATTRIBUTE, asked).wait(PATIENCE)
    assert asked.result is not None
    return asked.result


def test_the_board_is_coloured_by_the_text_of_the_session(explorer: Explorer, result: Attribution) -> None:
    assert THIS_TEXT.know(explorer) is result
    painted = BY_TEXT.paint(result, HeadMask.full(3, 4))
    assert isinstance(painted, Marks)
    words = [painted.words[group] for group in painted.groups.ravel()]
    changes = result.changes.ravel()
    assert words[int(np.abs(changes).argmax())] in ("supports it most", "against it")
    assert painted.groups.ravel()[result.order].tolist() == sorted(painted.groups.ravel().tolist())


def test_the_card_of_a_head_says_what_it_contributes(explorer: Explorer, result: Attribution) -> None:
    first, last = result.order[0], result.order[-1]
    assert describe_contribution(result, first).endswith("; 1 of 12 by support.")
    assert describe_contribution(result, last).endswith("; 12 of 12 by support.")
    assert f"changes by about {signed_nats(result.changes.min())} nats" in describe_contribution(result, first)


def test_the_colours_of_another_text_are_not_shown(explorer: Explorer, result: Attribution) -> None:
    key = f"own-text-text-{TOPIC}"
    st.session_state[key] = "typed on another page"
    assert THIS_TEXT.know(explorer) is None
    st.session_state[key] = TEXT
    assert THIS_TEXT.know(explorer) is result
    del st.session_state[key]


def test_the_name_of_the_data_is_no_markup(explorer: Explorer, result: Attribution) -> None:
    app = open_part(_draw_heads, replace(result, baseline="mean output over texts of **mine**"))
    assert any(r"\*\*mine\*\*" in one.value for one in app.markdown)
