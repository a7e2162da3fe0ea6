from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import fakes
import pytest
import torch

import cahp
from cahp.models.head_model import HeadModel
from cahp.models.reading import hold_out
from cahp.models.surgery import cut
from cahp.run.bench import open_bench
from cahp.run.settings import Settings, enlarge
from cahp.stages import recovery
from cahp.store import Store
from cahp.tasks.answers import Window
from cahp.values import DataError, HeadMask


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    place = tmp_path_factory.mktemp("mix")
    model = fakes.save_language_model(place / "lm", family="llama")
    (place / "texts.txt").write_text("\n\n".join(fakes.sentences(1200).first))
    (place / "notes.txt").write_text("\n\n".join(f"note {word}" for word in fakes.sentences(300, seed=5).first))
    return Settings(
        model=str(model), data=str(place / "texts.txt"), window=32, tokens=4096, eval_tokens=64, latency=False
    )


def count_read(windows: tuple[Window, ...], source: str) -> int:
    return sum(len(window.ids) for window in windows if window.source == source)


def test_a_quarter_of_the_calibration_tokens_is_read_twice_by_default(settings: Settings, store: Store) -> None:
    bench = open_bench(settings, store=store)
    windows = bench.calibration.windows
    passages, random = (count_read(windows, source) for source in ("passage", "random"))
    # Within one of the shortest sequences; windows of text are whole.
    assert 1024 - 33 <= passages + random <= 1024
    assert min(passages, random) > 300
    assert bench.calibration.tokens == pytest.approx(4096, abs=2 * 32)
    assert bench.calibration.count == 96
    assert "calibration mix: 25 % repeated passages and random tokens (--mix)" in bench.notices
    stream = [token for one in windows if not one.copying for token in one.ids[-one.scored :].tolist()]
    for copied in (one for one in windows if one.copying):
        # Only the second reading counts, after the beginning token.
        half = copied.ids[1 : 1 + copied.scored].tolist()
        assert copied.ids.tolist() == [windows[0].ids[0], *half, *half]
        if copied.source == "passage":
            assert any(stream[place : place + len(half)] == half for place in range(len(stream)))
    # Evaluation texts have none, and an evaluation alone has no mix to tell of.
    assert not count_read(bench.evaluation.windows, "passage")
    evaluated = cahp.evaluate(settings, store=store)
    assert not [notice for notice in evaluated["notices"] if "mix" in notice]


def test_recoveries_read_four_times_the_text_and_the_mix_besides(settings: Settings, store: Store) -> None:
    bench = open_bench(replace(settings, tokens=512), store=store)
    windows = cast(list[Window], bench.recoveries.inputs)
    # Heads are chosen on as many as before.
    assert (bench.calibration.count, bench.calibration.tokens) == (12, pytest.approx(512, abs=2 * 32))
    assert [window.source for window in windows].count("text") == 4 * 512 / 32
    read_twice = [len(window.ids) for window in windows if window.source != "text"]
    assert sum(read_twice) == pytest.approx(4 * 512 / 3, abs=33)
    # An estimate, without cutting them.
    assert len(bench.calibration) * bench.growth == pytest.approx(len(windows), rel=0.2)
    refitted, quick = (bench.recoveries.recover(HeadMask.of([0, 2], 3, 4), name) for name in ("refit", "quick-refit"))
    assert refitted.refit.examples == len(hold_out(windows)[0])
    assert "on 8 held-out windows after refit" in refitted.refit.reason
    # What is shown at once reads no more.
    assert quick.refit.examples == len(hold_out(bench.calibration.inputs)[0])
    assert enlarge(replace(settings, tokens=50_000, mix="0")).tokens == 50_000
    assert enlarge(replace(settings, tokens=10_000, mix="0")).tokens == 32_768


def test_another_mix_or_text_is_another_recovery(settings: Settings, store: Store, tmp_path: Path) -> None:
    digests = set()
    for name, value in (("mix", "0"), ("mix", "repeats=10%"), ("limit", 500), ("tokens", 256)):
        # Of so few tokens none are read twice, so that the same windows choose the heads.
        bench = open_bench(replace(settings, sample="head", **{"tokens": 224, "mix": "0", name: value}), store=store)
        digests.add(bench.recoveries.inputs_sha256)
    assert len(digests) == 4


def test_other_data_are_mixed_in(settings: Settings, store: Store) -> None:
    notes = Path(str(settings.data)).with_name("notes.txt")
    bench = open_bench(replace(settings, mix=f"{notes}=25%"), store=store)
    added = [window for window in bench.calibration.windows if window.text.count("note")]
    assert sum(window.scored for window in added) == 1024
    assert bench.calibration.count == 128
    with pytest.raises(DataError, match=r"no data named 'missing\.txt'"):
        open_bench(replace(settings, mix="missing.txt=25%"), store=store)


def test_evaluation_texts_are_left_out_of_the_mix(settings: Settings, store: Store, tmp_path: Path) -> None:
    words = fakes.sentences(900).first
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text("\n".join(["text", *words[:600]]))
    (tmp_path / "data" / "validation.csv").write_text("\n".join(["text", *words[600:]]))
    notes = tmp_path / "notes.txt"
    notes.write_text("\n\n".join(words[600:]))
    given = replace(settings, data=str(tmp_path / "data"), mix=f"{notes}=25%")
    with pytest.raises(DataError, match="--mix: all texts of"):
        open_bench(given, store=store)
    notes.write_text("\n\n".join([*words[600:], *(f"note {word}" for word in words[:100])]))
    # No text of a file is set aside.
    left_out = f"300 texts of {notes} were left out, because they are evaluation texts of"
    assert left_out in " ".join(open_bench(given, store=store).notices)


def test_an_overshooting_refit_is_shortened(settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = open_bench(settings, store=store)
    model = bench.model
    mask = HeadMask.of([0, 2], model.layers, model.heads)
    plain = cut(model, mask)
    solved = recovery.solve(model, mask, recovery.choose_inputs(bench.calibration.inputs))
    change = solved.projection(0).weight - plain.projection(0).weight

    def overshoot(*given: Any, **options: Any) -> HeadModel:
        """Change all weights four times as much as the solution does."""
        far = recovery.solve(*given, **options)
        for layer in range(model.layers):
            for site in model.family.refits:
                weight, start = far.projection(layer, site).weight, plain.projection(layer, site).weight
                far.projection(layer, site).replace(start + 4 * (weight - start), far.projection(layer, site).bias)
        return far

    row = overshoot, recovery.CLOSED_FORMS["refit"][1]
    monkeypatch.setitem(recovery.CLOSED_FORMS, "refit", row)  # type: ignore[arg-type]
    found, report = recovery.refit(model, mask, bench.calibration.inputs)
    assert report.accepted
    assert report.step in (0.5, 0.25)
    assert report.reason.endswith(f"(a step of {report.step:g})")
    assert report.repeats_after <= report.repeats_before
    moved = found.projection(0).weight - plain.projection(0).weight
    assert torch.allclose(moved, 4 * report.step * change, atol=1e-5)
