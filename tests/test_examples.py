"""The examples of the guide do what the package does."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import fakes
import pytest

import cahp
from cahp.run.settings import Settings
from cahp.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")


EXAMPLES = Path(__file__).parents[1] / "assets" / "examples"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """The method from top to bottom."""
    place = EXAMPLES / "cahp_in_80_lines.py"
    spec = importlib.util.spec_from_file_location("cahp_in_80_lines", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("budget", [None, 5])
def test_the_method_in_80_lines_keeps_the_heads_that_prune_keeps(
    example: ModuleType, budget: int | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(
        model=str(fakes.save_model(tmp_path / "model")),
        data=str(fakes.write_data(tmp_path / "data")),
        limit=60,
        latency=False,
        device="cpu",
    )
    mask = example.main(budget, settings)
    if budget is not None:
        settings = replace(settings, budget=str(budget))
    run = cahp.prune(settings, store=Store(tmp_path / "store"), progress=False)
    assert mask.by_layer == run.mask.by_layer
    assert f"{run.mask.count} of 12 heads kept" in capsys.readouterr().out


def test_the_example_fits_on_a_screen_and_a_half(example: ModuleType) -> None:
    assert example.__file__ is not None
    assert len(Path(example.__file__).read_text(encoding="utf-8").splitlines()) <= 80
