"""What is shown of results: a few kinds of blocks, and one renderer for each place that shows them."""
