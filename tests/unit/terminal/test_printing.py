from types import SimpleNamespace

import numpy as np
import pytest

from cahp.models.cards import Cost, Timing
from cahp.run.document import CostRecord
from cahp.run.show import show_cost
from cahp.show import html, markdown
from cahp.show.blocks import Block, Line, Marks, Table, Text
from cahp.show.terminal import lines
from cahp.terminal.progress import bars
from cahp.values import Estimate

FULL, CUT = Cost(100, 1000, Timing(10.0, 11.0, 8, 64, 40)), Cost(50, 600, Timing(9.9, 11.0, 8, 64, 40))


def test_a_time_that_could_as_well_be_the_same_is_said_first_to_be_no_change() -> None:
    changes = []
    for ratio in (Estimate(0.99, (0.97, 1.01), 40, "ratio"), Estimate(0.8, (0.78, 0.82), 40, "ratio")):
        measured = SimpleNamespace(cost=CostRecord(FULL, CUT), latency_ratio=ratio, attention_share=0.3, kv_cache=None)
        table, note = show_cost(measured)
        changes.append(table.rows[0][-1])
        assert "n = 40 rounds" in note.text
    assert changes == ["no measurable change: 0.99 × [0.97, 1.01]", "0.80 × [0.78, 0.82]"]
    sizes = [row[1:] for row in table.rows[1:]]
    assert sizes == [["0.0 M", "0.0 M", "−50.0 %"], ["0.00 G", "0.00 G", "−40.0 %"]]


def test_away_from_a_terminal_every_tenth_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with bars(quiet=False, lines=True, draws=False) as reporter:
        for done in range(0, 101, 5):
            reporter("compare", done, 100)
    said = capsys.readouterr().err.splitlines()
    assert [line.split("%")[0] for line in said] == [f"cahp: {tenth}0 " for tenth in range(1, 11)]
    assert said[-1] == "cahp: 100 % done, 0 s left"


SHARE = Estimate(0.5, (0.25, 0.75), 8, "share")
TABLE = Table("By <class>", ("class", "accuracy", "n"), (("a|b", SHARE, 1200), ("<i>", None, 3)))
MARKS = Marks("parity", "parity", np.array([[0, 1], [1, 1]]), ("", "e"), ("odd", "even"), "Parity of heads")
BLOCKS: tuple[Block, ...] = (Text("How to read it."), Line("1 < 2"), TABLE, MARKS)


def test_a_terminal_aligns_columns_by_the_widest_cell() -> None:
    assert list(lines(BLOCKS)) == [
        "  How to read it.",
        "  1 < 2",
        "",
        "  By <class>",
        "  class             accuracy      n",
        "  a|b    50.0 % [25.0, 75.0]  1,200",
        "  <i>                             3",
        "",
        "  layer 0 1",
        "  0     · e",
        "  1     e e",
        "  Parity of heads: e even",
    ]


def test_html_and_markdown_escape_all_text() -> None:
    drawn = "".join(html.draw(BLOCKS))
    assert "<p><b>1 &lt; 2.</b></p>" in drawn
    assert "<caption>By &lt;class&gt;</caption>" in drawn
    assert "<th scope=row>&lt;i&gt;</th><td></td><td>3</td>" in drawn
    assert "<th scope=row>0</th><td>·</td><td>e</td>" in drawn
    drawn = list(markdown.draw((TABLE,)))
    assert drawn[2:5] == ["| class | accuracy | n |", "|---|---|---|", "| a\\|b | 50.0 % [25.0, 75.0] | 1,200 |"]
    assert drawn[5].startswith("| &lt;i&gt; |")
