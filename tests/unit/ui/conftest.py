"""These tests need the explorer's packages, and are left out where they are not installed."""

import threading
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

collect_ignore_glob = [] if find_spec("streamlit") else ["*"]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Work that waits for it holds the worker; it is opened at the end whatever happens."""
    event = threading.Event()
    yield event
    event.set()
