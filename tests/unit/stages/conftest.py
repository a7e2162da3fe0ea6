"""The tiny model of these tests: a classifier of 3 layers with 4 heads each."""

from __future__ import annotations

import fakes
import pytest

from cahp import models
from cahp.models.head_model import HeadModel


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> HeadModel:
    return models.load(str(fakes.save_model(tmp_path_factory.mktemp("models") / "tiny")), device="cpu")
