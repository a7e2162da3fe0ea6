"""Roles in the files of a run: null unless they are asked for, and the same in document, table and report."""

from dataclasses import replace
from pathlib import Path

import copying
import guide
import numpy as np
import pytest
from copying import roles_of
from documents import run_json
from terminal import call

import cahp
from cahp.api import bundled
from cahp.features.roles.habits import average_maps, draw_pictures
from cahp.features.roles.section import ROLES_OF_HEADS, compare_kept
from cahp.run.bench import Bench
from cahp.run.document import RunDocument
from cahp.run.evidence import stored_roles
from cahp.run.measures import put_record
from cahp.stages import roles as stage
from cahp.stages.similarity import attend
from cahp.terminal.printing import run_lines
from cahp.ui.session.opening import Source
from cahp.values import Estimate, holm_correction
from cahp.values.head_roles import FEWEST_SETS, NOUNS, ROLES, THRESHOLDS, RoleAblation
from cahp.words import number

pytestmark = pytest.mark.usefixtures("one_thread")


#: The roles of the heads of ``documents``, of which layer 0 keeps heads 0 and 2, and layer 1 head 1.
OF_HEADS = roles_of("first", "previous", "first", "none", "none", "first", heads=3)

MEASURES = (ROLES_OF_HEADS,)


@pytest.fixture
def run() -> RunDocument:
    document = RunDocument.from_json(run_json())
    document = put_record(document, ROLES_OF_HEADS, OF_HEADS)
    return replace(document, verified=replace(document.verified, difference=0.0))


def test_a_summary_tells_which_roles_are_kept(run: RunDocument) -> None:
    # Random masks of three of six heads keep each single head with probability 0.5.
    said = "  kept by role (random masks, 95 %): previous token 0 of 1 (0 to 1), first token 2 of 3 (0 to 3), "
    assert f"{said}no role 1 of 2 (0 to 2)" in run_lines(run, MEASURES)
    assert not any("by role" in line for line in run_lines(put_record(run, ROLES_OF_HEADS, None), MEASURES))


def test_a_picture_shows_weak_attention_beside_strong_one(small_bench: Bench) -> None:
    # The square root of the attention, as a share of the largest, in 255ths.
    assert draw_pictures(np.array([[[0.25, 1.0], [0.0, 0.0625]]])).tolist() == [[[128, 255], [0, 64]]]
    maps = average_maps(small_bench.model, small_bench.evaluation.take(np.array([3])), pool=8)
    assert maps.pictures.shape == (12, 8, 8)
    # With as many bins as tokens, the map is the attention itself.
    seen = attend(small_bench.model, small_bench.evaluation.inputs[3])
    own = average_maps(small_bench.model, small_bench.evaluation.take(np.array([3])), pool=len(seen.tokens))
    expected = draw_pictures(seen.by_head.astype(float))
    assert np.abs(own.pictures.astype(int) - expected.astype(int)).max() <= 1


def test_kept_roles_are_compared_with_random_masks_of_the_same_size() -> None:
    keep = np.array([[True] * 10 + [False] * 10])
    first, none = compare_kept(roles_of(*["first"] * 10, *["none"] * 10), keep)
    assert (first.role, first.kept, first.count, first.low, first.high) == ("first", 10, 10, 3, 7)
    # One of the 184,756 masks keeps all ten; two sides, two roles.
    assert first.p == none.p == pytest.approx(4 / 184_756)
    level = compare_kept(roles_of("first", "none"), np.array([[True, False]]))
    assert [(row.kept, row.low, row.high, row.p) for row in level] == [(1, 0, 1, 1.0), (0, 0, 1, 1.0)]


def nats(value: float) -> Estimate:
    return Estimate(value, (value - 1, value + 1), 6, "nats")


def test_an_ablation_is_confirmed_by_its_interval_and_its_corrected_p_value() -> None:
    compared = RoleAblation("induction", 7, nats(9), nats(9), nats(2), nats(7), p=0.01, corrected=0.04, sets=80)
    assert compared.confirmed
    assert not replace(compared, extra=Estimate(1, (-0.1, 2.1), 6, "nats")).confirmed
    assert not replace(compared, corrected=0.06).confirmed
    assert not RoleAblation("first", 6, nats(9), nats(9)).confirmed


def test_the_guide_states_the_roles_that_ship() -> None:
    run = bundled.read_run("smollm2")
    roles = stored_roles(Source.open(bundled.RUNS["smollm2"]).bench.resources)
    page = " ".join(guide.PAGES["assets/docs/results/heads.md"].split())
    counts = dict(roles.counts)
    without = counts.pop("none")
    named = [f"{count} {NOUNS[role]}" for role, count in counts.items()]
    said = f"{sum(counts.values())} have a role: {', '.join(named)}"
    assert said.replace("retrieval", "are named retrieval", 1) in page
    assert sum(counts.values()) + without == 90
    for role, row in roles.at_thresholds.items():
        cells = [str(count) for count in row]
        cells[THRESHOLDS.index(ROLES[role].least)] += "*"
        assert f"| {NOUNS[role]} | {' | '.join(cells)} |" in page
    kept = {row.role: row for row in compare_kept(roles, run.document.mask.keep)}
    assert all(row.p > 0.05 for row in kept.values())
    for role, units in (("induction", "induction groups (random masks keep"), ("retrieval", "retrieval groups (")):
        assert f"{kept[role].kept} of {kept[role].count} {units}" in page


def test_the_guide_states_what_ablation_confirms_and_the_losses_tell_it_again() -> None:
    roles = stored_roles(Source.open(bundled.RUNS["smollm2"]).bench.resources, ablate=True)
    rows = []
    p_values = {}
    for one in roles.ablations:
        cells = [NOUNS[one.role]]
        estimates = (one.without, one.zero, one.random, one.extra)
        cells += ["" if estimate is None else write_nats(estimate) for estimate in estimates]
        word = "not tested" if one.corrected is None else number(one.corrected, 3)
        rows.append(f"| {' | '.join([*cells, f'{one.drawn} of {one.sets}', word])} |".replace("|  |  |", "| | |"))
        if one.losses:
            assert np.mean(one.losses) == pytest.approx(one.random.value, abs=1e-5)
        if one.drawn >= FEWEST_SETS:
            p_values[one.role] = (1 + np.sum(np.array(one.losses) >= one.without.value)) / (1 + one.drawn)
        assert one.p == p_values.get(one.role)
    assert guide.marked("ablations").splitlines()[2:] == rows
    corrected = dict(zip(p_values, holm_correction(list(p_values.values())), strict=True))
    assert {one.role: one.corrected for one in roles.ablations if one.confirmed} == corrected
    assert len(corrected) == 3


def write_nats(estimate: Estimate) -> str:
    low, high = estimate.ci95
    return f"{number(estimate.value, 2)} [{number(low, 2)}, {number(high, 2)}]"


def test_roles_prints_a_grid_with_evidence_and_its_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = copying.save_copying_model(tmp_path / "model")
    answer = call("roles", model, "--device", "cpu", "--json")
    assert (answer.code, answer.err) == (0, "")
    assert answer.document["names"] == [["previous", "first"], ["induction", "none"]]
    assert answer.document["ablations"] is None
    assert answer.document["thresholds"]["heads"]["induction"] == [1] * 6
    monkeypatch.setattr(stage, "measure_roles", lambda *_, **__: pytest.fail("measured again"))
    lines = call("roles", model, "--device", "cpu", "--ablate").out.splitlines()
    assert lines[0].startswith("  3 of 4 heads have a role")
    assert lines[3].split() == ["0", "prev", "1st"]
    scores, ablation, why = [line for line in lines if line.startswith("  induction ")]
    assert scores.split()[-6:] == ["1", "1*", "1", "1", "1", "1"]
    assert "  1 of 1  " in ablation
    assert ablation.endswith("  not tested")
    assert why == "  induction was not tested: p ≤ 0.05 needs 19 sets of as many other heads, and its layers have 1."
    again = cahp.roles(model, device="cpu")
    assert again.names == copying.ROLES
    assert repr(again) == "2 x 2 heads: 1 induction, 1 previous token, 1 first token, 1 no role"
