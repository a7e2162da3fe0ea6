from __future__ import annotations

import fakes
import pytest

from cahp.run.bench import Bench, open_bench
from cahp.run.settings import Settings
from cahp.store import Store


@pytest.fixture(scope="module")
def small_bench(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Three layers of four heads on sixty texts, evaluated on forty."""
    folder = tmp_path_factory.mktemp("bench")
    model, data = fakes.save_model(folder / "model"), fakes.write_data(folder / "data")
    settings = Settings(model=str(model), data=str(data), device="cpu", limit=60, eval_limit=40, latency=False)
    return open_bench(settings, store=Store(folder / "store"))
