"""One tiny model and its data, for whatever is exported of them."""

import fakes
import pytest

from cahp.run.bench import Bench, open_bench
from cahp.run.settings import Settings
from cahp.store import Store


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    place = tmp_path_factory.mktemp("tiny")
    model, data = fakes.save_model(place / "model"), fakes.write_data(place / "data", train=60, validation=30)
    return fakes.quick(model, data, limit=60, eval_limit=30, latency=True, latency_time="0.05s")


@pytest.fixture(scope="session")
def bench(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return open_bench(settings, store=Store(tmp_path_factory.mktemp("store")))
