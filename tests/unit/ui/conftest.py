"""These tests need the explorer's packages, and are left out where they are not installed."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("streamlit") else ["*"]
