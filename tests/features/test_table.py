"""A feature is a file and a row of the table: what it measures comes through every door, and nothing else names it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from pkgutil import resolve_name

import fakes
import numpy as np
import pytest
from apps import done, explorer_with_run, has_button, open_app, open_part, rerun, text_of
from documents import run_json
from terminal import call, refused

import cahp
from cahp import cli, features
from cahp.board.colourings import colour_by_measures, paint
from cahp.cli.measure import make_command
from cahp.features import Feature
from cahp.run.bench import Bench
from cahp.run.document import RunDocument
from cahp.run.measures import MaskSubject, Measure, put_record
from cahp.run.recoveries import Recovered
from cahp.show.blocks import Block, Line, Marks
from cahp.ui.budget.page import list_panels
from cahp.ui.frame.panels import Panel, find_record, kind_of
from cahp.ui.session import jobs
from cahp.values import CahpError, HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class Parity:
    """Whether an even number of heads is kept in each layer, times ``factor``."""

    even: tuple[bool, ...]
    factor: int


@dataclass(frozen=True)
class ParityOptions:
    factor: int = 1


class MeasureParity(Measure[Parity]):
    name = "parity"
    title = "Parity of layers"
    help = "Say which layers keep an even number of heads."
    record = Parity
    options = ParityOptions

    def tokens(self, bench: Bench, options: ParityOptions) -> float:
        return 0.0

    def run(self, bench: Bench, mask: HeadMask, recovered: Recovered | None, options: ParityOptions) -> Parity:
        if options.factor > 8:
            raise CahpError("a factor above 8 is too much; choose a smaller one")
        return Parity(tuple(count % 2 == 0 for count in mask.counts), options.factor)

    def show(self, record: Parity, subject: MaskSubject) -> Iterator[Block]:
        yield Line(f"{record.factor * sum(record.even)} layers keep an even number of heads")
        groups = np.repeat(np.array(record.even, dtype=np.int64)[:, None], subject.mask.heads, axis=1)
        yield Marks("parity", "parity", groups, ("o", "e"), ("an odd layer", "an even layer"), "Parity of layers")


PARITY = MeasureParity()


QUICK = ("--pool-size", 8, "--projection", "pca", "--device", "cpu", "--no-latency", "--budget", 5)


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    row = Feature("parity", measures=lambda: (PARITY,))
    monkeypatch.setattr(features, "FEATURES", (*features.FEATURES, row))
    registered = list(cli.app.registered_commands)
    make_command(PARITY).add_to(cli.app)
    yield
    cli.app.registered_commands = registered


@pytest.fixture
def place(tmp_path: Path) -> Path:
    fakes.save_model(tmp_path / "model")
    fakes.write_data(tmp_path / "data")
    return tmp_path


@pytest.mark.usefixtures("listed")
def test_a_run_that_measured_it_has_its_colouring() -> None:
    run = put_record(RunDocument.from_json(run_json()), PARITY, Parity((True, False), 1))
    coloured = colour_by_measures(features.measures(), run)
    assert [one.colouring.name for one in coloured] == ["parity"]
    assert paint(coloured, run.mask)[-1]["groups"].tolist() == [1, 1, 1, 0, 0, 0]


@pytest.mark.usefixtures("listed")
def test_it_is_a_command_a_function_and_a_line_of_the_model_card(place: Path) -> None:
    np.save(place / "mask.npy", np.eye(3, 4, dtype=np.uint8))
    own = ["--data", place / "data", "--device", "cpu"]
    answer = call("parity", place / "model", *own, "--mask", place / "mask.npy", "--factor", 2, "--json")
    assert answer.document == {"model": str(place / "model"), "recover": "none", "even": [False] * 3, "factor": 2}
    shown = call("parity", place / "model", *own, "--factor", 3)
    assert shown.out.splitlines()[0] == "  9 layers keep an even number of heads"
    assert "a factor above 8 is too much" in refused(call("parity", place / "model", *own, "--factor", 9))
    function = cahp.parity  # type: ignore[attr-defined]
    record = function(place / "model", place / "data", mask=place / "mask.npy", factor=4, device="cpu")
    assert record == Parity((False,) * 3, 4)
    assert "Say which layers keep an even number of heads." in function.__doc__


def test_an_unknown_measure_is_refused_with_those_that_exist(place: Path) -> None:
    answer = call("prune", "--model", place / "model", "--data", place / "data", *QUICK, "--measure", "luck")
    assert "--measure luck is unknown; choose of roles, abilities, neutral, continuation" in refused(answer)


@pytest.mark.usefixtures("listed")
def test_it_has_a_tab_with_an_offer_a_price_progress_cancel_failure_and_the_result(tmp_path: Path) -> None:
    with explorer_with_run("parity", fakes.quick_task(tmp_path, budget="6")) as explorer:
        explorer.detail = PARITY.title
        explorer.chosen_recovery = "none"
        app = open_app("budget", explorer)
        offer = app.button(key="parity-tab")
        assert offer.label.startswith("Measure (about ")
        assert "Say which layers keep an even number of heads" in text_of(app, "markdown")
        # Failure: one sentence, and the offer again.
        app.number_input(key="parity-option-factor").set_value(9)
        app.button(key="parity-tab").click().run()
        failed = explorer.job(kind_of(PARITY, ParityOptions(9)), explorer.recovery.ready)
        assert failed is not None
        assert failed.wait(60)
        rerun(app)
        assert "A factor above 8 is too much" in text_of(app, "error")
        # The result, for this mask and this recovery.
        app.number_input(key="parity-option-factor").set_value(2).run()
        app.button(key="parity-tab").click().run()
        record = done(explorer.job(kind_of(PARITY, ParityOptions(2)), explorer.recovery.ready))
        rerun(app)
        assert find_record(explorer, PARITY) == record
        assert "layers keep an even number of heads" in text_of(app, "markdown")
        assert not has_button(app, "parity-tab")
        explorer.board.toggle(explorer.mask.flat[0])
        assert find_record(explorer, PARITY) is None


@pytest.mark.usefixtures("listed")
def test_its_job_can_be_cancelled_while_it_waits(tmp_path: Path) -> None:
    with explorer_with_run("parity-waits", fakes.quick_task(tmp_path, budget="6")) as explorer:
        explorer.detail = PARITY.title
        gate = threading.Event()
        held = jobs.submit("other", "held", lambda _: gate.wait(60), title="Held")
        app = open_app("budget", explorer)
        app.button(key="parity-tab").click().run()
        assert has_button(app, "cancel-parity-tab")
        app.button(key="cancel-parity-tab").click().run()
        assert has_button(app, "parity-tab-again")
        gate.set()
        assert held.wait(60)


def test_a_measure_that_cannot_be_imported_is_named_on_its_tab_and_every_other_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> list[Measure[Parity]]:
        raise ImportError("no module named luck")

    before = features.measures()
    monkeypatch.setattr(features, "FEATURES", (*features.FEATURES, Feature("parity", measures=fail)))
    assert features.measures() == before
    tab = next(panel for panel in list_panels() if panel.name == "parity")
    app = open_part(tab.draw, None)
    assert "Parity cannot be shown: ImportError: no module named luck" in text_of(app, "error")


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
