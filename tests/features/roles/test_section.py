"""Roles in the files of a run: null unless they are asked for, and the same in document, table and report."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import fakes
import pytest
from copying import roles_of
from documents import run_json
from fakes import prune

from cahp.exports.masks import MaskOrigin, mask_csv
from cahp.exports.report import Origin, page
from cahp.features.roles.section import ROLES_OF_HEADS
from cahp.files import json_text
from cahp.run.document import RunDocument
from cahp.run.measures import put_record
from cahp.store import Store
from cahp.terminal.printing import run_lines

pytestmark = pytest.mark.usefixtures("one_thread")

#: The roles of the heads of ``documents``, of which layer 0 keeps heads 0 and 2, and layer 1 head 1.
ROLES = roles_of("first", "previous", "first", "none", "none", "first", heads=3)

MEASURES = (ROLES_OF_HEADS,)


@pytest.fixture
def run() -> RunDocument:
    document = RunDocument.from_json(run_json())
    document = put_record(document, ROLES_OF_HEADS, ROLES)
    return replace(document, verified=replace(document.verified, difference=0.0))


def test_a_run_measures_roles_if_it_is_asked_and_finds_them_again(tmp_path: Path) -> None:
    settings, store = fakes.quick_task(tmp_path, budget="5"), Store(tmp_path / "store")
    assert prune(settings, store=store).document.to_json()["roles"] is None
    document = prune(replace(settings, roles=True), store=store).document
    assert ROLES_OF_HEADS.read_run(document) is not None
    said = json.loads(json_text(document.to_json()))
    assert said["roles"]["counts"] == {"duplicate": 0, "previous": 0, "current": 0, "first": 0, "none": 12}
    assert RunDocument.from_json(said).sections == document.sections
    # Another run of the same model finds them in the store.
    again = prune(replace(settings, roles=True, budget="6"), store=store).document
    assert again.sections == document.sections
    assert "roles" in again.cached


def test_a_summary_tells_which_roles_are_kept(run: RunDocument) -> None:
    # Random masks of three of six heads keep each single head with probability 0.5.
    said = "  kept by role (random masks, 95 %): previous token 0 of 1 (0 to 1), first token 2 of 3 (0 to 3), "
    assert f"{said}no role 1 of 2 (0 to 2)" in run_lines(run, MEASURES)
    assert not any("by role" in line for line in run_lines(put_record(run, ROLES_OF_HEADS, None), MEASURES))


def test_the_csv_of_heads_has_their_roles(run: RunDocument) -> None:
    written = mask_csv(run.mask, MaskOrigin("m", "random", 3, columns=ROLES.columns)).decode()
    rows = list(csv.DictReader(io.StringIO(written)))
    nouns = ["first token", "previous token", "first token", "no role", "no role", "first token"]
    assert [row["role"] for row in rows] == nouns


def test_a_report_lists_roles_with_their_evidence(run: RunDocument) -> None:
    origin = Origin("a machine", "2026-01-31", "cahp prune")
    text = page(run, origin=origin, measures=MEASURES)
    assert "<th scope=row>first token</th><td>90.0 % [80.0, 95.0], n = 16</td>" in text
    assert "Roles of heads" not in page(put_record(run, ROLES_OF_HEADS, None), origin=origin, measures=MEASURES)
