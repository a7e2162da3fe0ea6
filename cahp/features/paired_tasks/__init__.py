"""Tasks of lm-evaluation-harness: two runs of it, compared item by item."""
