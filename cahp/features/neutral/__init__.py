"""Narrow or broad: a mask on neutral text."""
