"""Blocks are drawn by every renderer: aligned in a terminal, escaped in HTML and Markdown."""

import numpy as np

from cahp.show import html, markdown
from cahp.show.blocks import Block, Line, Marks, Table, Text
from cahp.show.terminal import lines
from cahp.values import Estimate

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


def test_html_escapes_all_text() -> None:
    drawn = "".join(html.draw(BLOCKS))
    assert "<p><b>1 &lt; 2.</b></p>" in drawn
    assert "<caption>By &lt;class&gt;</caption>" in drawn
    assert "<th scope=row>&lt;i&gt;</th><td></td><td>3</td>" in drawn
    assert "<th scope=row>0</th><td>·</td><td>e</td>" in drawn


def test_a_bar_in_a_cell_opens_no_column_of_markdown() -> None:
    drawn = list(markdown.draw((TABLE,)))
    assert drawn[2:5] == ["| class | accuracy | n |", "|---|---|---|", "| a\\|b | 50.0 % [25.0, 75.0] | 1,200 |"]
    assert drawn[5].startswith("| &lt;i&gt; |")
