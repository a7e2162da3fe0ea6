"""``cahp abilities``, and the receipt that a run of a language model brings, as their users meet them."""

from dataclasses import replace
from pathlib import Path

import copying
import fakes
import numpy as np
import pytest
from terminal import call, refused

from cahp.features.abilities import measuring
from cahp.features.abilities.section import RECEIPT
from cahp.run.document import RunDocument
from cahp.store import Store
from cahp.values import HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")

#: Without its induction head, the flat index of which is 2.
WITHOUT = HeadMask.of([0, 1, 3], 2, 2)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("abilities")
    copying.save_copying_model(place / "model")
    (place / "texts.txt").write_text("\n\n".join(fakes.sentences(300).first))
    np.save(place / "mask.npy", WITHOUT.keep)
    return place


def options(place: Path) -> list[object]:
    return ["--data", place / "texts.txt", "--window", 16, "--eval-tokens", 640, "--device", "cpu"]


def test_the_receipt_names_what_a_mask_breaks(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = call("abilities", place / "model", *options(place), "--mask", place / "mask.npy")
    assert (answer.code, answer.err) == (0, "")
    assert "as pruned: of 2 measurable abilities: lost repeats text, repeats random tokens" in answer.out
    grammar = next(line for line in answer.out.splitlines() if line.startswith("  grammar"))
    assert "not measurable" in grammar
    assert grammar.endswith("its tokenizer does not know the words")
    # The same call reads its losses from the store.
    monkeypatch.setattr(measuring, "read_items", lambda *_, **__: pytest.fail("measured again"))
    again = call("abilities", place / "model", *options(place), "--mask", place / "mask.npy", "--json")
    rows = {row["name"]: row for row in again.document["rows"]}
    assert rows["repeats_random"]["pruned"]["word"] == "lost"
    # The induction head alone knows the next token: without it, a token is one of 44.
    losses = rows["repeats_random"]["losses"]
    assert losses["full"]["value"] < 0.01
    assert losses["pruned"]["value"] > 3


def test_a_recovery_needs_a_mask(place: Path) -> None:
    answer = call("abilities", place / "model", *options(place), "--recover", "refit")
    assert "needs a pruned model; give its mask with --mask" in refused(answer)


@pytest.mark.parametrize(("wanted", "names"), [(None, 2), (True, 9), (False, 0)])
def test_repeats_are_measured_unless_declined(place: Path, tmp_path: Path, wanted: bool | None, names: int) -> None:
    settings = fakes.quick(place / "model", place / "texts.txt", window=16, tokens=320, eval_tokens=160, budget="3")
    document = fakes.prune(replace(settings, abilities=wanted), store=Store(tmp_path)).document
    record = RECEIPT.read_run(RunDocument.from_json(document.to_json()))
    assert len(record.rows if record is not None else ()) == names
