from __future__ import annotations

import fakes
import pytest

from cahp.run.bench import Bench, open_bench
from cahp.store import Store


@pytest.fixture(scope="module")
def small_bench(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Three layers of four heads on sixty texts, evaluated on forty."""
    folder = tmp_path_factory.mktemp("bench")
    return open_bench(fakes.quick_task(folder, limit=60, eval_limit=40), store=Store(folder / "store"))
