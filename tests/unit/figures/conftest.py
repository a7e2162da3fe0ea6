"""These tests need what draws figures, and are left out where it is not installed."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("plotly") else ["*"]
