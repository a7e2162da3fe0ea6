"""What a run reads: how much of a text, texts without labels, and a mix of several."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import fakes
import pytest
import torch

import cahp
from cahp import methods, models
from cahp.files import json_text
from cahp.models.head_model import HeadModel
from cahp.models.reading import hold_out
from cahp.models.surgery import cut
from cahp.outcomes import OUTCOMES
from cahp.run.bench import open_bench
from cahp.run.document import RunDocument
from cahp.run.prune import choose, measure_run
from cahp.run.settings import Settings, enlarge
from cahp.run.texts import load_data
from cahp.stages import recovery
from cahp.store import Store
from cahp.tasks.answers import Window
from cahp.values import DataError, HeadMask, OptionError


def wide(folder: Path, reads: int, **more: Any) -> Path:
    """A model that reads so many tokens."""
    fakes.save_model(folder, max_position_embeddings=reads, **more)
    words = fakes.tokenizer()
    words.model_max_length = reads
    words.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("positions", "max_length", "read"),
    [
        (300, None, 300),
        (1000, None, 512),
        (1000, 128, 128),
        (1000, 600, 600),
        # Never more than the model has positions for.
        (1000, 5000, 1000),
    ],
)
def test_512_tokens_are_read_unless_told(tmp_path: Path, positions: int, max_length: int | None, read: int) -> None:
    model = cahp.load(str(wide(tmp_path, positions)), device="cpu", max_length=max_length)
    (entry,) = model.tokenize(["good film " * 2000])
    assert len(entry["input_ids"]) == read


def test_a_run_counts_the_texts_that_were_cut(tmp_path: Path) -> None:
    # It reads 6 words of each text, and two tokens that frame them.
    settings = fakes.quick_task(tmp_path, budget="5", max_length=8)
    run = cahp.prune(settings, store=Store(tmp_path / "store")).document
    splits = load_data(settings, models.identify(settings.model)).splits
    for part in (run.data.select, run.data.eval):
        texts = splits[part.split].first
        longer = sum(len(text.split()) > 6 for text in texts)
        assert 0 < longer < len(texts)
        assert (part.cut, part.examples, part.max_length) == (longer, len(texts), 8)
    assert RunDocument.from_json(run.to_json()).data == run.data


NEEDS_MORE = {name for name, row in OUTCOMES.items() if row.needs}
TEXTS = fakes.sentences(160, seed=3)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A run on a text file of one document per line."""
    place = tmp_path_factory.mktemp("tiny")
    (place / "notes.txt").write_text("\n".join(TEXTS.first), encoding="utf-8")
    return fakes.quick(fakes.save_model(place / "model"), place / "notes.txt", documents="line", budget="5")


def test_a_run_measures_what_needs_no_label_and_says_so(settings: Settings, store: Store) -> None:
    run = measure_run(open_bench(replace(settings, recover="refit"), store=store))
    for outcomes in run.document.outcomes.values():
        assert outcomes.keys() == OUTCOMES.keys() - NEEDS_MORE
    written = json.loads(json_text(run.document.to_json()))
    assert written["data"]["labelled"] is False
    assert written["data"]["select"]["class_counts"] is None
    assert [written["metrics"]["pruned"][name] for name in ("accuracy", "macro_f1", "loss", "ci95")] == [None] * 4
    assert written["metrics"]["pruned"]["n"] == written["data"]["eval"]["examples"] > 0
    assert written["delta"] == {"pruned": None, "recovered": None}
    assert written["refit"]["kl_after"] < written["refit"]["kl_before"]
    assert RunDocument.from_json(written) == run.document
    assert any("no labels" in notice for notice in run.document.notices)


@pytest.mark.parametrize(
    ("name", "recover"), [("magnitude", "refit"), ("confidence", "mean"), ("random-even", "refit")]
)
def test_poisoned_labels_change_nothing(settings: Settings, tmp_path: Path, name: str, recover: str) -> None:
    """The texts are more than ``--limit``, so that the sample could depend on labels too."""
    path, rows = tmp_path / "poisoned.jsonl", []
    # All of one class come first, as in a file sorted by label.
    for number, text in enumerate(TEXTS.first):
        rows.append(json.dumps({"text": text, "label": "good" if number < 130 else "bad"}))
    path.write_text("\n".join(rows), encoding="utf-8")
    ours = replace(settings, data=str(path), method=name, recover=recover, limit=60)
    found = []
    for number, label_column in enumerate(("(none)", None)):
        bench = open_bench(replace(ours, label_column=label_column), store=Store(tmp_path / str(number)))
        assert bench.dataset.labelled == (label_column is None)
        found.append((choose(bench).mask, bench.recoveries.refit(choose(bench).mask, recover)))
    (mask, repaired), (poisoned_mask, poisoned) = found
    assert mask.sha256 == poisoned_mask.sha256
    assert repaired.report == poisoned.report
    assert repaired.sha256 == poisoned.sha256


def test_methods_and_recoveries_that_need_labels_are_refused_by_name(settings: Settings, store: Store) -> None:
    assert methods.facts("fisher").labels != "needed"
    asked = {
        "dsp": {"method": "dsp"},
        "ablation": {"method": "ablation"},
        "finetune": {"recover": "finetune"},
        "--labels": {"recover": "distill", "labels": True},
    }
    for word, changes in asked.items():
        with pytest.raises(OptionError, match=f"{word} needs labels"):
            open_bench(replace(settings, **changes), store=store)
    with pytest.raises(OptionError, match="--label-map"):
        open_bench(replace(settings, label_map={"a": "good"}), store=store)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    place = tmp_path_factory.mktemp("mix")
    model = fakes.save_language_model(place / "lm", family="llama")
    (place / "texts.txt").write_text("\n\n".join(fakes.sentences(1200).first))
    (place / "notes.txt").write_text("\n\n".join(f"note {word}" for word in fakes.sentences(300, seed=5).first))
    return Settings(
        model=str(model), data=str(place / "texts.txt"), window=32, tokens=4096, eval_tokens=64, latency=False
    )


def count_read(windows: tuple[Window, ...], source: str) -> int:
    return sum(len(window.ids) for window in windows if window.source == source)


def test_a_quarter_of_the_calibration_tokens_is_read_twice_by_default(mixed: Settings, store: Store) -> None:
    bench = open_bench(mixed, store=store)
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
    evaluated = cahp.evaluate(mixed, store=store)
    assert not [notice for notice in evaluated["notices"] if "mix" in notice]


def test_recoveries_read_four_times_the_text_and_the_mix_besides(mixed: Settings, store: Store) -> None:
    bench = open_bench(replace(mixed, tokens=512), store=store)
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
    assert enlarge(replace(mixed, tokens=50_000, mix="0")).tokens == 50_000
    assert enlarge(replace(mixed, tokens=10_000, mix="0")).tokens == 32_768


def test_another_mix_or_text_is_another_recovery(mixed: Settings, store: Store, tmp_path: Path) -> None:
    digests = set()
    for name, value in (("mix", "0"), ("mix", "repeats=10%"), ("limit", 500), ("tokens", 256)):
        # Of so few tokens none are read twice, so that the same windows choose the heads.
        bench = open_bench(replace(mixed, sample="head", **{"tokens": 224, "mix": "0", name: value}), store=store)
        digests.add(bench.recoveries.inputs_sha256)
    assert len(digests) == 4


def test_other_data_are_mixed_in(mixed: Settings, store: Store) -> None:
    notes = Path(str(mixed.data)).with_name("notes.txt")
    bench = open_bench(replace(mixed, mix=f"{notes}=25%"), store=store)
    added = [window for window in bench.calibration.windows if window.text.count("note")]
    assert sum(window.scored for window in added) == 1024
    assert bench.calibration.count == 128
    with pytest.raises(DataError, match=r"no data named 'missing\.txt'"):
        open_bench(replace(mixed, mix="missing.txt=25%"), store=store)


def test_evaluation_texts_are_left_out_of_the_mix(mixed: Settings, store: Store, tmp_path: Path) -> None:
    words = fakes.sentences(900).first
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text("\n".join(["text", *words[:600]]))
    (tmp_path / "data" / "validation.csv").write_text("\n".join(["text", *words[600:]]))
    notes = tmp_path / "notes.txt"
    notes.write_text("\n\n".join(words[600:]))
    given = replace(mixed, data=str(tmp_path / "data"), mix=f"{notes}=25%")
    with pytest.raises(DataError, match="--mix: all texts of"):
        open_bench(given, store=store)
    notes.write_text("\n\n".join([*words[600:], *(f"note {word}" for word in words[:100])]))
    # No text of a file is set aside.
    left_out = f"300 texts of {notes} were left out, because they are evaluation texts of"
    assert left_out in " ".join(open_bench(given, store=store).notices)


def test_an_overshooting_refit_is_shortened(mixed: Settings, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = open_bench(mixed, store=store)
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
