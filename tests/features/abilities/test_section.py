"""The receipt of a run: in its file, terminal, report and exports, on the strip of marks, and as a goal."""

import re
from pathlib import Path

import fakes
import numpy as np
import pytest
from fakes import prune

from cahp.features.abilities.panel import strip_html
from cahp.features.abilities.record import AbilitiesRecord, ItemValues, decide
from cahp.features.abilities.section import RECEIPT
from cahp.run.bench import Bench
from cahp.run.recoveries import Recovered
from cahp.store import Store
from cahp.values import HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")


def make_record() -> AbilitiesRecord:
    """Make a receipt of which the pruned model loses one ability."""
    full = np.ones(100)
    broken = np.repeat([0.0, 1.0], [80, 20])
    rows = [
        ItemValues("recall_0", "class <b>", values={"full": full, "pruned": full}),
        ItemValues("neutral", "texts of another kind", chance=0.2, values={"full": full, "pruned": broken}),
        ItemValues("negation", "texts with a negation", reason="there are none"),
    ]
    return AbilitiesRecord(decide(rows), complete=True)


def test_the_strip_has_a_symbol_a_word_and_a_stop_of_the_keyboard_for_each_ability() -> None:
    html = strip_html(make_record(), "pruned", "none")
    assert html.count('tabindex="0"') == 3
    assert re.findall(r'class="ability-word">([^<]*)<', html) == ["lost", "kept", "not measurable"]
    assert "\N{MULTIPLICATION X} texts of another kind<" in html
    assert "<b>:" not in html
    assert "class &lt;b&gt;" in html


def test_the_goal_keeps_least_heads_at_no_loss(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(bench: Bench, mask: HeadMask, recovered: Recovered | None, **_: object) -> AbilitiesRecord:
        assert (recovered is None) == mask.is_full
        record = make_record()
        if mask.count < 8:
            return record
        return AbilitiesRecord(record.rows[:1])

    monkeypatch.setattr("cahp.features.abilities.classifying.measure_classifier", measure)
    settings = fakes.quick_task(tmp_path, budget="auto", recover="refit", goal="abilities")
    run = prune(settings, store=store).document
    assert (run.goal.heads, run.mask.count) == (8, 8)
    record = RECEIPT.read_run(run)
    assert "lost" not in record.by_word("pruned")
