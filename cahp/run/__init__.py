"""One run: from a model and data to a mask, what it answers, costs and wins back."""
