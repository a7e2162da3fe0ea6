"""Every measure through every door: a run, its files and its report, a command, a function and a tab; and the table."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import fakes
import numpy as np
import pytest
from apps import explorer_with_run, has_button, open_app, open_part, text_of
from documents import run_json
from terminal import call, refused

import cahp
from cahp import features
from cahp.board.colourings import colour_by_measures, encode
from cahp.exports.report import Origin, page
from cahp.features import Feature
from cahp.features.abilities.section import RECEIPT
from cahp.files import json_text
from cahp.run.bench import open_bench
from cahp.run.document import RunDocument
from cahp.run.measures import MaskSubject, Measure, measure, put_record
from cahp.run.settings import Settings
from cahp.show.blocks import Block, Line, Marks
from cahp.store import Store
from cahp.terminal.printing import run_lines
from cahp.ui.budget.page import list_panels
from cahp.ui.frame.panels import Panel
from cahp.ui.session import jobs

pytestmark = pytest.mark.usefixtures("one_thread")

MEASURES = features.measures()
ORIGIN = Origin("a machine", "2026-01-31", "cahp prune")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("measures")
    (place / "notes.txt").write_text("\n\n".join(fakes.sentences(120, seed=9).first))
    return place


@pytest.fixture(scope="module")
def classifier(place: Path) -> Settings:
    return fakes.quick_task(place / "classifier", limit=60, eval_limit=40, budget="5")


@pytest.fixture(scope="module")
def language_model(place: Path) -> Settings:
    model = fakes.save_language_model(place / "language")
    return fakes.quick(model, place / "notes.txt", window=16, tokens=320, eval_tokens=160, budget="5")


@pytest.mark.parametrize("one", MEASURES, ids=lambda one: one.name)
def test_a_run_measures_what_it_is_asked_for_and_finds_it_again(
    one: Measure[Any], request: pytest.FixtureRequest, place: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = request.getfixturevalue("language_model" if one.name == "continuation" else "classifier")
    if one.name != "continuation":
        plain = fakes.prune(settings, store=store).document
        assert plain.to_json()[one.name] is None
        assert f"<h2>{one.title}</h2>" not in page(plain, origin=ORIGIN, measures=MEASURES)
    asked = replace(settings, measure=(one.name,))
    if one.name == "neutral":
        asked = replace(asked, neutral_data=str(place / "notes.txt"))
    document = fakes.prune(asked, store=store).document
    record = one.read_run(document)
    assert record is not None
    assert one.read_run(RunDocument.from_json(json.loads(json_text(document.to_json())))) == record
    said = [block.text for block in one.show(record, MaskSubject.of(document)) if isinstance(block, Line)]
    assert all(any(finding in line for line in run_lines(document, MEASURES)) for finding in said[:1])
    assert f"<h2>{one.title}</h2>" in page(document, origin=ORIGIN, measures=MEASURES)
    monkeypatch.setattr(type(one), "run", lambda *_: pytest.fail("measured again"))
    bench = open_bench(asked, store=store)
    assert measure(one, bench, document.mask, None, one.wanted(bench)) == record


@pytest.mark.parametrize("one", [one for one in MEASURES if one.commanded], ids=lambda one: one.name)
def test_it_is_a_command_and_a_function_that_say_the_same(one: Measure[Any], classifier: Settings, place: Path) -> None:
    np.save(place / "mask.npy", np.eye(3, 4, dtype=np.uint8))
    given: dict[str, Any] = {"limit": 60, "device": "cpu"}
    if one.name == "neutral":
        given["texts"] = str(place / "notes.txt")
    if one.of_mask:
        given["mask"] = place / "mask.npy"
    words = [part for name, value in given.items() for part in (f"--{name}", value)]
    answer = call(one.name, classifier.model, "--data", classifier.data, *words, "--json")
    assert (answer.code, answer.err) == (0, "")
    assert answer.document["model"] == classifier.model
    record = getattr(cahp, one.name)(classifier.model, classifier.data, **given)
    assert one.to_json(record).items() <= answer.document.items()


def test_an_unknown_measure_is_refused_with_those_that_exist(classifier: Settings) -> None:
    answer = call("prune", "--model", classifier.model, "--data", classifier.data, "--measure", "luck")
    assert "there is no --measure 'luck'; choose one of roles, " in refused(answer)


def test_its_job_can_be_cancelled_while_it_waits(classifier: Settings) -> None:
    with explorer_with_run("waits", replace(classifier, budget="6")) as explorer:
        explorer.detail = RECEIPT.title
        gate = threading.Event()
        held = jobs.submit("other", "held", lambda _: gate.wait(60), title="Held")
        app = open_app("budget", explorer)
        app.button(key="abilities-tab").click().run()
        assert has_button(app, "cancel-abilities-tab")
        app.button(key="cancel-abilities-tab").click().run()
        assert has_button(app, "abilities-tab-again")
        gate.set()
        assert held.wait(60)


def test_a_measure_that_cannot_be_imported_is_named_on_its_tab_beside_others(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Feature("parity", measures=("neutral.missing:PARITY",))
    monkeypatch.setattr(features, "FEATURES", (*features.FEATURES, broken))
    assert features.measures() == MEASURES
    tab = next(panel for panel in list_panels() if panel.name == "parity")
    app = open_part(tab.draw, None)
    words = "Parity cannot be shown: ModuleNotFoundError: No module named 'cahp.features.neutral.missing'"
    assert words in text_of(app, "error").replace("\\", "")


class Marking(Measure[int]):
    """Marks as many heads as its record says."""

    name = "marking"
    title = "Marking"
    record = int

    def show(self, record: int, subject: MaskSubject) -> Iterator[Block]:
        groups = (np.arange(subject.mask.keep.size) < record).astype(np.int64).reshape(subject.mask.keep.shape)
        yield Marks("marked", "marked", groups, ("o", "m"), ("another head", "a marked head"), "Marking")


def test_a_measure_that_marks_heads_colours_the_board() -> None:
    run = put_record(RunDocument.from_json(run_json()), Marking(), 4)
    (coloured,) = colour_by_measures([Marking()], run)
    assert coloured.name == "marked"
    assert encode([coloured])[-1]["groups"].tolist() == [1, 1, 1, 1, 0, 0]
    # Every part of a row is found.
    for feature in features.FEATURES:
        for name in (*feature.measures, *feature.experiments, *feature.colourings, *feature.first_texts):
            assert features.find_part(name)
        for name in feature.panels.values():
            assert isinstance(features.find_part(name), Panel)
    # Every room has a row of its name.
    rooms = [room.name for room in iter_modules(features.__path__)]
    assert sorted(feature.name for feature in features.FEATURES) == sorted(rooms)
