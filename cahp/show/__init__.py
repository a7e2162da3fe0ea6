"""What is shown of results: a few kinds of blocks, and one renderer for each place that shows them."""

from cahp.show.blocks import (
    Block as Block,
    Blocks as Blocks,
    Cell as Cell,
    Claim as Claim,
    Figure as Figure,
    Line as Line,
    Marks as Marks,
    Table as Table,
    Text as Text,
)
