"""What a pruned model can still do: a receipt of its abilities beside the full model's."""
