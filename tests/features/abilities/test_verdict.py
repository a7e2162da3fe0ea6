"""The word of an ability follows from its values item by item, and hand-made values have known words."""

import json
import re
from dataclasses import replace
from pathlib import Path

import fakes
import msgspec
import numpy as np
import pytest
from fakes import prune

from cahp.api import bundled
from cahp.features.abilities.classifying import _Rows, find_negations, mistype
from cahp.features.abilities.panel import strip_html
from cahp.features.abilities.record import (
    AbilitiesRecord,
    ItemValues,
    compare_disagreement,
    decide,
    find_word,
    lower_limit,
)
from cahp.features.abilities.section import RECEIPT, measure_receipt
from cahp.files import json_text, plain_json
from cahp.run.bench import Bench
from cahp.run.recoveries import Recovered
from cahp.store import Store
from cahp.tasks.answers import NO_LABEL, Evaluation
from cahp.tasks.texts import Texts
from cahp.values import HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")


#: 64 items with a mean gain of 1 nat above a chance of 0.
FULL = np.linspace(0.5, 1.5, 64)
NOISE = np.tile([-0.1, 0.1], 32)


def row(pruned: np.ndarray, full: np.ndarray = FULL, **more: object) -> ItemValues:
    return ItemValues("repeats", "repeats text", "nats", values={"full": full, "pruned": pruned}, **more)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (NOISE, "kept"),
        (NOISE + 0.5, "kept"),
        (np.zeros(64), "kept"),
        # Surely below 0, and within a tenth of the lead.
        (NOISE - 0.05, "kept"),
        (NOISE - 0.3, "weaker"),
        (NOISE - 0.51, "lost"),
        (NOISE * 30 - 0.3, "not significant"),
    ],
)
def test_the_word_follows_from_the_paired_difference(change: np.ndarray, word: str) -> None:
    (ability,) = decide([row(FULL + change)])
    assert ability.pruned.word == word
    assert ability.pruned.difference.value == pytest.approx(change.mean())


@pytest.mark.parametrize(
    ("gain", "rise", "word"),
    [(0, 0.05, "kept"), (0, 0.3, "weaker"), (0, 0.6, "lost"), (-0.3, 0.0, "weaker"), (0, -0.3, "kept")],
)
def test_an_ability_is_kept_where_the_second_reading_is_as_well(gain: float, rise: float, word: str) -> None:
    losses = {"full": np.ones(64), "pruned": 1 + NOISE + rise}
    (ability,) = decide([row(FULL + NOISE + gain, losses=losses)])
    assert ability.pruned.word == word


def test_a_bundled_receipt_keeps_no_ability_whose_second_reading_left_the_margin() -> None:
    runs = json.loads((Path(__file__).parents[3] / "assets/mix/smollm2.json").read_text("utf-8"))["runs"]
    records = [RECEIPT.read_run(bundled.read_run("smollm2").document), *(run["abilities"] for run in runs)]
    for ability in (one for record in records for one in msgspec.to_builtins(record)["rows"] if one["losses"]):
        for state in ("pruned", "recovered"):
            rise = ability["losses"][state]["value"] - ability["losses"]["full"]["value"]
            assert ability[state]["word"] != "kept" or rise < 0.1 * (ability["full"]["value"] - ability["chance"])


def test_what_the_full_model_lacks_few_items_and_a_reason_are_not_measurable() -> None:
    values = np.tile([-1.0, 1.0], 32)
    unread = ItemValues("grammar", "grammar", reason="it reads 8 tokens")
    lacking, few, none = decide([row(values - 5, full=values), row(FULL[:7] - 1, full=FULL[:7]), unread])
    assert lacking.reason == "the full model is not significantly above chance"
    assert lacking.word_of("pruned") == "not measurable"
    assert (few.reason, few.word_of("pruned")) == ("7 items are too few", "not measurable")
    assert (none.reason, none.n, none.full, none.word_of("pruned")) == ("it reads 8 tokens", 0, None, "not measurable")


def test_shares_are_compared_in_points_above_their_chance() -> None:
    full = np.ones(40)
    pruned = np.repeat([0.0, 1.0], [10, 30])
    (ability,) = decide([ItemValues("grammar", "grammar", chance=0.5, values={"full": full, "pruned": pruned})])
    assert (ability.full.text, ability.pruned.value.text) == ("100.0 %", "75.0 %")
    assert ability.pruned.difference.text == "\N{MINUS SIGN}25.0 points"
    # Exactly half of the lead of 50 points is gone, which is not more than half.
    assert ability.pruned.word == "weaker"
    # Mean 2, standard error 1 / sqrt(3), t of 2 degrees of freedom 2.92.
    assert lower_limit(np.array([1.0, 2.0, 3.0])) == pytest.approx(2 - 2.92 / np.sqrt(3), abs=1e-3)
    # Correction makes a weak sign among many rows not significant.
    change = np.zeros(64)
    change[:6] = -2
    alone, *_ = decide([row(FULL + change)])
    among, *_ = decide([row(FULL + change), *[row(FULL + NOISE)] * 9])
    assert (alone.word_of("pruned"), among.word_of("pruned")) == ("weaker", "not significant")
    assert find_word(change, 1.0, 0.04) == "weaker"


def test_a_receipt_is_read_back_from_its_file_and_loses_its_recovery() -> None:
    values = {"full": FULL, "pruned": FULL - 0.8 + NOISE, "recovered": FULL + NOISE}
    losses = {state: 2 - gains for state, gains in values.items()}
    rows = decide([ItemValues("repeats", "repeats text", "nats", values=values, loss_label="again", losses=losses)])
    record = AbilitiesRecord(rows)
    assert msgspec.convert(json.loads(json_text(plain_json(record))), AbilitiesRecord) == record
    assert record.states == ("pruned", "recovered")
    assert [one.label for one in record.by_word("pruned")["lost"]] == ["repeats text"]
    assert record.summarise("pruned") == "of 1 measurable abilities: lost repeats text"
    assert record.summarise("recovered") == "no ability is significantly worse; 1 of 1 measurable ones are kept"
    pruned = record.of_models("full", "pruned")
    assert (pruned.states, list(pruned.rows[0].losses)) == (("pruned",), ["full", "pruned"])
    assert pruned.rows[0].pruned == record.rows[0].pruned


CLASSES = ("bad", "good")


def make_texts(first: list[str], labels: list[int], second: list[str] | None = None) -> Texts:
    pairs = None
    if second is not None:
        pairs = tuple(second)
    return Texts(tuple(first), pairs, np.array(labels, dtype=np.int64), CLASSES)


def answer(texts: Texts, predicted: list[int]) -> Evaluation:
    return Evaluation(np.eye(2, dtype=np.float32)[predicted], texts.labels, CLASSES)


def test_right_is_the_label_and_chance_how_often_the_full_model_predicts_it() -> None:
    texts = make_texts(["a"] * 20, [0] * 12 + [1] * 8)
    # The full model is right everywhere but in the last text, and so predicts the first class in 13 of 20.
    answers = _Rows(texts, {"full": answer(texts, [0] * 12 + [1] * 7 + [0]), "pruned": answer(texts, [0] * 20)})
    row = answers.make("recall_1", "class good", np.flatnonzero(texts.labels == 1))
    assert row.values["full"].tolist() == [1] * 7 + [0]
    assert row.values["pruned"].tolist() == [0] * 8
    assert row.chance == pytest.approx([7 / 20] * 8)
    assert not row.by_definition
    # Without labels, right is what the full model predicts.
    texts = make_texts(["a"] * 20, [NO_LABEL] * 20)
    answers = _Rows(texts, {"full": answer(texts, [0] * 15 + [1] * 5), "pruned": answer(texts, [0] * 20)})
    row = answers.make("neutral", "texts of another kind")
    assert row.values["full"].tolist() == [1] * 20
    assert row.values["pruned"].tolist() == [1] * 15 + [0] * 5
    # A model with these frequencies agrees by chance in 0.75 x 0.75 + 0.25 x 0.25 of the texts.
    assert np.mean(row.chance) == pytest.approx(0.625)
    (ability,) = decide([row])
    # A third of the lead is left over: (0.75 - 0.625) / (1 - 0.625).
    assert ability.word_of("pruned") == "lost"


def test_agreement_is_worse_only_beyond_the_margin() -> None:
    # At least 3 of 3 disagree at a rate of 0.1 with a probability of 0.001.
    assert compare_disagreement(3, 3, 0.1) == pytest.approx(0.002)
    assert compare_disagreement(0, 10, 0.1) == 1
    values = {"full": np.ones(100), "pruned": np.repeat([0.0, 1.0], [9, 91])}
    row = ItemValues("neutral", "texts of another kind", values=values, by_definition=True)
    accuracy = replace(row, by_definition=False)
    assert [decide([one])[0].word_of("pruned") for one in (row, accuracy)] == ["not significant", "weaker"]
    # Few equal answers do not prove that an ability is kept.
    # With one change each way the limit is -1.86 * 0.5 / 3 = -0.31 of 7 + 2 items, and -1.65 * 0.1 / 14.2 of 200 + 2.
    assert find_word(np.zeros(7), 1.0, 1.0, shares=True) == "not significant"
    assert find_word(np.zeros(200), 1.0, 1.0, shares=True) == "kept"


@pytest.mark.parametrize(
    ("text", "negates"),
    [
        ("It is not good", True),
        ("I didn\N{RIGHT SINGLE QUOTATION MARK}t", True),
        ("DON'T", True),
        ("Nothing", True),
        ("a notable knot", False),
        ("isnt", False),
    ],
)
def test_negations_are_found_as_words(text: str, negates: bool) -> None:
    assert find_negations(make_texts([text], [0])).tolist() == [0] * negates
    assert find_negations(make_texts(["x"], [0], [text])).tolist() == [0] * negates


def test_typing_errors_depend_on_seed_and_text_alone() -> None:
    texts = make_texts(["several words of this text", "another sentence"], [0, 1])
    assert mistype(texts, 7).take([1]).inputs == mistype(texts.take([1]), 7).inputs
    assert len({mistype(texts, 7).inputs[1], mistype(texts, 8).inputs[1], texts.inputs[1]}) == 3


def test_a_receipt_of_the_full_model_under_a_full_mask_flags_nothing(small_bench: Bench) -> None:
    record = measure_receipt(small_bench, HeadMask.full(small_bench.card.layers, small_bench.card.heads), None)
    assert record.complete
    assert not {"lost", "weaker"} & set(record.by_word("pruned"))
    names = [row.name for row in record.rows]
    assert names[:2] == ["recall_0", "recall_1"]
    assert names[-3:] == ["negation", "typing_errors", "neutral"]
    neutral = record.rows[-1]
    assert neutral.n == 60
    assert {row.label for row in record.rows[:2]} == {f"class {name}" for name in small_bench.class_names}


def make_items() -> list[ItemValues]:
    """Make the items of a receipt of which the pruned model loses one ability."""
    full = np.ones(100)
    broken = np.repeat([0.0, 1.0], [80, 20])
    return [
        ItemValues("recall_0", "class <b>", values={"full": full, "pruned": full}),
        ItemValues("neutral", "texts of another kind", chance=0.2, values={"full": full, "pruned": broken}),
        ItemValues("negation", "texts with a negation", reason="there are none"),
    ]


def test_the_strip_has_a_symbol_a_word_and_a_stop_of_the_keyboard_for_each_ability() -> None:
    html = strip_html(AbilitiesRecord(decide(make_items())), "pruned", "none")
    assert html.count('tabindex="0"') == 3
    assert re.findall(r'class="ability-word">([^<]*)<', html) == ["lost", "kept", "not measurable"]
    assert "\N{MULTIPLICATION X} texts of another kind<" in html
    assert "<b>:" not in html
    assert "class &lt;b&gt;" in html


def test_the_goal_keeps_least_heads_at_no_loss(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(bench: Bench, mask: HeadMask, recovered: Recovered | None, **_: object) -> list[ItemValues]:
        assert (recovered is None) == mask.is_full
        if mask.count < 8:
            return make_items()
        return make_items()[:1]

    monkeypatch.setattr("cahp.features.abilities.classifying.classify_items", measure)
    settings = fakes.quick_task(tmp_path, budget="auto", recover="refit", goal="abilities")
    run = prune(settings, store=store).document
    assert (run.goal.heads, run.mask.count) == (8, 8)
    record = RECEIPT.read_run(run)
    assert "lost" not in record.by_word("pruned")
