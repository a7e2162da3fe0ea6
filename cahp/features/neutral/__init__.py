"""Narrow or broad: a mask that was chosen on one task, evaluated on neutral text."""
