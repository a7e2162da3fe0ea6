"""What the tab measures and draws of a person's own text, without a page."""

from collections.abc import Iterator
from dataclasses import replace

import fakes
import numpy as np
import pytest
import streamlit as st
from _attribution_check import list_findings, read_bundled_checks
from apps import done, explorer_with_run, open_part

from cahp.api import bundled
from cahp.features.attribution.measuring import find_baseline
from cahp.features.attribution.panel import ATTRIBUTE, THIS_TEXT, AttributedText, _draw_heads, mark_text
from cahp.features.attribution.result import Attribution, find_check, read_check
from cahp.models import identify
from cahp.run.bench import open_bench
from cahp.ui.parts.inputs import TOPIC
from cahp.ui.session.explorer import Explorer

pytestmark = pytest.mark.usefixtures("one_thread")


TEXT = "the film was very good"


@pytest.fixture(scope="module")
def explorer(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explorer]:
    with explorer_with_run("reader", fakes.quick_task(tmp_path_factory.mktemp("attribution"))) as made:
        yield made


@pytest.fixture(scope="module")
def result(explorer: Explorer) -> Attribution:
    asked = AttributedText(explorer.bench, TEXT, None)
    assert THIS_TEXT.know(explorer) is None
    explorer.memory["attribution.text"] = asked
    done(explorer.work.start(ATTRIBUTE, asked))
    return asked.result


def test_the_board_is_coloured_by_the_text_of_the_session(explorer: Explorer, result: Attribution) -> None:
    assert THIS_TEXT.know(explorer) is result
    painted = mark_text(result)
    words = [painted.words[group] for group in painted.groups.ravel()]
    changes = result.changes.ravel()
    assert words[int(np.abs(changes).argmax())] in ("supports it most", "against it")
    assert painted.groups.ravel()[result.order].tolist() == sorted(painted.groups.ravel().tolist())
    # The colours of another text are not shown.
    key = f"own-text-text-{TOPIC}"
    st.session_state[key] = "typed on another page"
    assert THIS_TEXT.know(explorer) is None
    st.session_state[key] = TEXT
    assert THIS_TEXT.know(explorer) is result
    del st.session_state[key]
    # The name of the data is no markup.
    app = open_part(_draw_heads, replace(result, baseline="mean output over texts of **mine**"))
    assert any(r"\*\*mine\*\*" in one.value for one in app.markdown)


def test_the_shipped_checks_are_of_fifty_texts_and_beat_random_heads() -> None:
    checks = {check.model: check for check in read_bundled_checks().values()}
    assert set(checks) == {"minilm-bbc", "smollm2"}
    for name, check in checks.items():
        # The check read texts of any length.
        bench = open_bench(replace(bundled.RUNS[name], max_length=None))
        card = bench.card
        assert (check.sha256, check.units, len(check.texts)) == (card.identity, card.layers * card.heads, 50)
        assert check.baseline == str(find_baseline(bench))
        assert check.made is not None
        assert read_check(card.identity) == list(list_findings(check))
        # Without the top heads the answer loses more than without random ones.
        assert all(gap.high < 0 for _, _, gap in map(check.removed, range(3)))


def test_a_check_stands_beside_the_comparison_of_its_model() -> None:
    comparisons, _ = bundled.read_comparisons()
    claims = {one.name: find_check(one.comparison.document) for one in comparisons}
    claim = claims["minilm-bbc"]
    assert [vars(line)["text"] for line in claim.show()] == read_check(identify("minilm-bbc").identity)
    assert claims["minilm-sst5"] is None
