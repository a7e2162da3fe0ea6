"""The parts of a head's output add up, and the words say who covers for it."""

from pathlib import Path

import fakes
import numpy as np
import pytest
from apps import done, explorer_with_run, open_app, rerun, text_of

from cahp.features import anatomy
from cahp.run.bench import open_bench
from cahp.run.measures import MaskSubject
from cahp.show import Line, Table
from cahp.store import Store
from cahp.ui.frame import find_record, list_colourings
from cahp.ui.frame.panels import kind_of
from cahp.values import Estimate, HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")

LEFT = {"zero": 10.0, "mean": 8.0, "token": 6.0, "neighbours": 5.0, "words": 4.0, "heads": 5.0, "both": 3.0}


def head(zero: float, mean: float, words: float, both: float) -> anatomy.HeadAnatomy:
    costs = dict(zip(("zero", "mean", "words", "both"), (zero, mean, words, both), strict=True))
    return anatomy.HeadAnatomy(
        **anatomy.divide_output(LEFT), costs={name: Estimate(cost, None, 4, "nats") for name, cost in costs.items()}
    )


def test_five_parts_of_an_output_by_hand() -> None:
    shares = anatomy.divide_output(LEFT)
    # Beyond the mean 8 of 10: words alone tell 5 - 3, heads alone 4 - 3, either 8 - 4 - 5 + 3.
    expected = {"constant": 0.2, "words": 0.2, "either": 0.2, "heads": 0.1, "own": 0.3}
    assert shares == pytest.approx({**expected, "token": 0.2, "neighbours": 0.1, "means": 0.1})


NOISY = ({"mean": 11.0}, {"words": 5.5, "both": 6.0, "heads": 9.0}, {"zero": 0.0})
TOGETHER = {"words": 7.5, "neighbours": 7.6, "heads": 7.5}


@pytest.mark.parametrize("changes", [{}, *NOISY, TOGETHER])
def test_parts_are_never_negative_and_add_up_to_one(changes: dict[str, float]) -> None:
    shares = anatomy.divide_output({**LEFT, **changes})
    assert min(shares.values()) >= 0
    assert sum(shares[part] for part in anatomy.PARTS) == pytest.approx(1, abs=1e-12)
    parts_of_words = sum(shares[name] for name in ("token", "neighbours", "means"))
    assert parts_of_words == pytest.approx(shares["words"] + shares["either"], abs=1e-12)


def test_who_covers_in_one_sentence() -> None:
    rows = (
        head(3.02, 0.04, 0.03, 0.03),
        head(0.2, 0.15, 0.03, 0.02),
        head(0.5, 0.4, 0.35, 0.01),
        head(0.05, 0.04, 0.04, 0.03),
        head(0.0004, 0.0, 0.0, 0.0),
        head(0.9, 0.1, 0.1, 0.1),
    )
    record = anatomy.Anatomy(3, 2, 100, 50, rows)
    sentences = [anatomy.describe_cover(row, place, 2, "group") for place, row in enumerate(rows)]
    assert sentences[0] == (
        "Removing group 0 of layer 0 costs 3.020 nats; with its mean in its place 0.040: it is a bias"
    )
    assert sentences[1].endswith("; with a linear function of the words 0.030: the words cover for it")
    assert sentences[2].endswith("; with the other groups of its layer as well 0.010: they cover for it")
    assert "; 0.030 are lost whatever takes its place" in sentences[3]
    assert sentences[4] == "Removing group 0 of layer 2 costs 0.00040 nats: it hardly matters"
    assert anatomy.mark_cover(record).groups.tolist() == [[0, 1], [2, 3], [4, 0]]
    blocks = list(anatomy.ANATOMY.show(record, MaskSubject(HeadMask.full(3, 2), unit="group")))
    assert [block.text for block in blocks if isinstance(block, Line)] == [
        "Of what it costs to remove each of 6 groups alone, its mean takes 84 % away, a linear function of the words 4 "
        "% more, and the other groups of its layer 8 % more; 4 % is lost",
        sentences[0],
    ]
    (table,) = (block for block in blocks if isinstance(block, Table))
    # By what is lost for good.
    assert [row[0] for row in table.texts][:2] == ["layer 2, group 1", "layer 0, group 0"]


def test_it_is_measured_once_of_the_windows_of_a_language_model(tmp_path: Path, store: Store) -> None:
    (tmp_path / "notes.txt").write_text("\n\n".join(fakes.sentences(120, seed=9).first))
    model = fakes.save_language_model(tmp_path / "model")
    bench = open_bench(fakes.quick(model, tmp_path / "notes.txt", window=16, tokens=320, eval_tokens=160), store=store)
    assert anatomy.ANATOMY.stored(bench) is None
    record = anatomy.measure_anatomy(bench, 3)
    assert record is not None
    assert record.held_out <= 3 * 16
    for row in record.rows:
        assert sum(getattr(row, part) for part in anatomy.PARTS) == pytest.approx(1, abs=1e-6)
    assert np.mean(record.list_costs("mean")) > np.mean(record.list_costs("both"))
    assert anatomy.measure_anatomy(bench, 3, measure=False) == record


def test_a_card_offers_it_and_shows_what_is_stored(tmp_path: Path) -> None:
    with explorer_with_run("anatomy", fakes.quick_task(tmp_path, budget="6")) as explorer:
        app = open_app("home", explorer, head="1.2")
        app.button(key="anatomy-card").click().run()
        record = done(explorer.work.job(kind_of(anatomy.ANATOMY, anatomy.ANATOMY.options())))
        rerun(app)
        assert anatomy.describe_cover(record.rows[6], 6, 4, "head") in text_of(app, "markdown").replace("\\", "")
        assert [row.name for row in list_colourings() if row.know(explorer) == record] == ["anatomy"]
        # Another mask changes nothing.
        explorer.board.toggle(6)
        assert find_record(explorer, anatomy.ANATOMY) == record
