"""A feature is one row of the table: what it brings appears at every seam, and nothing else names it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from pkgutil import resolve_name

import fakes
import numpy as np
import pytest
import typer
from terminal import call
from typer.testing import CliRunner

from cahp import features
from cahp.board.colourings import Colouring, Painted
from cahp.cli.command import Call, command
from cahp.features import Feature
from cahp.run.bench import Bench
from cahp.run.document import RunDocument
from cahp.run.recovered import Recovered
from cahp.run.sections import Section
from cahp.ui.frame.panels import Panel
from cahp.values import HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class Parity:
    """Whether an even number of heads is kept in each layer."""

    even: tuple[bool, ...]


def measure(bench: Bench, mask: HeadMask, recovered: Recovered | None) -> Parity:
    return Parity(tuple(count % 2 == 0 for count in mask.counts))


def describe(parity: Parity, run: RunDocument) -> Iterator[str]:
    yield f"  {sum(parity.even)} layers keep an even number of heads"


def draw(parity: Parity, run: RunDocument) -> Iterator[str]:
    yield f"<p>{sum(parity.even)} even layers</p>"


def paint(parity: Parity, mask: HeadMask) -> Painted:
    groups = np.repeat(np.array(parity.even, dtype=np.int64), mask.heads)
    return Painted(groups, groups, ("odd", "even"), ("an odd layer", "an even layer"), "Parity of layers")


BY_PARITY = Colouring("parity", "parity", paint)
SECTION = Section(
    "parity", Parity, "Parity", lambda bench: True, measure, describe=describe, draw=draw, colouring=BY_PARITY
)


@command(of_call=("as_json",), example="cahp count")
def parity(call: Call) -> None:
    """Say which layers are even."""
    call.answer({"layers": "even"}, ["all layers are even"])


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    feature = Feature("parity", sections=lambda: (SECTION,), commands=lambda: (parity,))
    monkeypatch.setattr(features, "FEATURES", (*features.FEATURES, feature))


@pytest.mark.usefixtures("listed")
def test_a_section_stands_in_the_summary_the_file_and_the_report_of_a_run(tmp_path: Path) -> None:
    model, data = fakes.save_model(tmp_path / "model"), fakes.write_data(tmp_path / "data")
    quick = ["--pool-size", 8, "--projection", "pca", "--device", "cpu", "--no-latency", "--budget", 5]
    answer = call("prune", "--model", model, "--data", data, *quick, "--out", tmp_path / "out")
    assert (answer.code, answer.err) == (0, "")
    run = RunDocument.from_json(json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8")))
    expected = [count % 2 == 0 for count in run.mask.counts]
    assert run.to_json()["parity"] == {"even": expected}
    assert f"  {sum(expected)} layers keep an even number of heads" in answer.out
    call("report", tmp_path / "out")
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert f"<h2>Parity</h2><p>{sum(expected)} even layers</p>" in report


def test_every_part_of_a_row_is_found() -> None:
    for feature in features.FEATURES:
        for seam in fields(feature)[1:]:
            part = getattr(feature, seam.name)
            if callable(part):
                part()
        for name in chain(*feature.panels.values()):
            assert isinstance(resolve_name(f"{features.__name__}.{name}"), Panel)


def test_every_room_has_a_row_of_its_name() -> None:
    rooms = {file.parent.name for file in Path(features.__file__).parent.glob("*/__init__.py")}
    assert sorted(feature.name for feature in features.FEATURES) == sorted(rooms)


@pytest.mark.usefixtures("listed")
def test_a_command_is_one_after_cahp() -> None:
    app = typer.Typer()
    for one in features.commands():
        one.add_to(app)
    result = CliRunner().invoke(app, ["parity"], obj=["parity"])
    assert result.output == "all layers are even\n"
