"""What is shown of results: a few kinds of blocks, and one renderer for each place that shows them."""

from cahp.show.blocks import Block, Cell, Claim, Figure, Line, Marks, Table, Text

__all__ = ["Block", "Cell", "Claim", "Figure", "Line", "Marks", "Table", "Text"]
