"""What abilities are measured on, what is said of models whose abilities are known, and ``cahp abilities``."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import copying
import fakes
import numpy as np
import pytest
import torch
from apps import done, explorer_with_run, has_button, open_app, rerun, text_of
from terminal import call, refused

from cahp import models
from cahp.features.abilities import measuring
from cahp.features.abilities.items import (
    ABILITIES,
    ItemSource,
    NotMeasurable,
    Size,
    ask_choices,
    ask_sums,
    look_up,
    repeat_random,
    repeat_text,
    use_context,
)
from cahp.features.abilities.measuring import make_source, read_items, value_items
from cahp.features.abilities.record import FLAGS, ItemValues, decide
from cahp.features.abilities.section import RECEIPT, AbilityOptions
from cahp.models.head_model import HeadModel
from cahp.run.document import RunDocument
from cahp.store import Store
from cahp.tasks.texts import Texts
from cahp.ui.export.view import list_findings, on_board
from cahp.ui.frame.panels import find_record, kind_of
from cahp.ui.session.explorer import Explorer
from cahp.values import HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = {kind.name: kind for kind in ABILITIES}
#: The two rows that every run measures, with fewer items than a run of a large model has.
SIZE = Size(16, 8, 24)


@pytest.fixture(scope="module")
def model(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> HeadModel:
    return models.load(str(copying.save_copying_model(tmp_path_factory.mktemp("copying"))), device="cpu")


def source_of(model: HeadModel, seed: int = 0, tokens: int = 600) -> ItemSource:
    source = make_source(model, Texts((), None, np.zeros(0, np.int64), ()), seed)
    source.stream = np.random.default_rng(0).choice(source.usual, tokens)
    return source


def measure(model: HeadModel, name: str, seed: int, mask: HeadMask | None = None) -> ItemValues:
    source = source_of(model, seed)
    items = KINDS[name].draw(source, SIZE, source.random(name))
    sums = {"full": read_items(model, items)}
    if mask is not None:
        sums["pruned"] = read_items(model, items, gates=model.gates(mask.keep))
    return value_items(KINDS[name], items, sums)


def test_a_passage_is_read_twice_after_the_beginning_token(model: HeadModel) -> None:
    source = source_of(model)
    items = repeat_text(source, SIZE, source.random("a"))
    for probe in items.probes:
        assert probe.ids[0] == source.start
        whole = np.append(probe.ids[1:], probe.targets[-1])
        first, second = np.split(whole, 2)
        assert np.array_equal(first, second)
        # Without the first token of each reading.
        assert np.array_equal(probe.targets, np.concatenate([first[1:], second[1:]]))
        assert np.array_equal(probe.parts, np.repeat([0, 1], len(first) - 1))
        assert 8 <= len(first) <= 24
    assert len(items.probes) == 16


def test_the_losses_of_parts_are_those_of_the_model(model: HeadModel) -> None:
    source = source_of(model)
    items = repeat_random(source, Size(3, 5, 9), source.random("a"))
    sums = read_items(model, items)
    for probe in items.probes:
        with torch.no_grad():
            logits = model.network(torch.tensor(probe.ids)[None]).logits[0].log_softmax(-1)
        losses = -logits[probe.asked, probe.targets].numpy()
        for part in (0, 1):
            assert sums[probe.item, part] == pytest.approx(losses[probe.parts == part].sum(), rel=1e-4, abs=1e-5)


def test_the_most_probable_option_counts_whatever_its_number_of_tokens(model: HeadModel) -> None:
    source = source_of(model)
    # The model copies: after "good film" and "bad plot", "good" is followed by "film".
    text = "good film bad plot the good"
    single = ask_choices(source, [(text, [" film", " plot"])])
    assert (len(single.readings), single.sizes.tolist()) == (1, [[1, 1]])
    several = ask_choices(source, [(text, [" film bad", " plot"])])
    assert (len(several.probes), several.sizes.tolist()) == (2, [[2, 1]])
    # The prompt of one option begins what is read for the other.
    assert [len(probes) for _, probes in several.readings] == [2]
    for items in (single, several):
        assert value_items(KINDS["facts"], items, {"full": read_items(model, items)}).values["full"].tolist() == [1.0]
    # Options that are as probable are not right.
    losses = np.array([[2.0, 1.0, 3.0], [1.0, 1.0, 3.0]])
    twice = ask_choices(source, [(text, [" film", " plot", " bad"])] * 2)
    assert value_items(KINDS["facts"], twice, {"full": losses}).values["full"].tolist() == [0.0, 0.0]


def test_context_is_the_text_before_the_same_tokens(model: HeadModel) -> None:
    source = source_of(model)
    source.longest = 1000
    source.stream = np.arange(600)
    items = use_context(source, Size(5, 64, 128), source.random("a"))
    for alone, after in zip(items.probes[::2], items.probes[1::2], strict=True):
        assert np.array_equal(alone.targets, after.targets)
        assert (len(alone.targets), len(alone.ids)) == (31, 32)
        assert 64 <= len(after.ids) - len(alone.ids) <= 128
        assert after.ids[-1] == alone.ids[-1] == alone.targets[-1] - 1


def test_cutting_the_induction_head_loses_repeats_in_each_of_20_draws(model: HeadModel) -> None:
    without = HeadMask.of([0, 1, 3], 2, 2)
    words = [decide([measure(model, "repeats_random", seed, without)])[0].word_of("pruned") for seed in range(20)]
    assert words == ["lost"] * 20
    # Against itself on other draws a model is flagged at most once.
    flagged = 0
    for seed in range(20):
        rows: list[ItemValues] = []
        for name in ("repeats_text", "repeats_random"):
            one, other = measure(model, name, seed), measure(model, name, 1000 + seed)
            values = {"full": one.values["full"], "pruned": other.values["full"]}
            rows.append(ItemValues(name, name, "nats", values=values))
        flagged += any(row.word_of("pruned") in FLAGS for row in decide(rows))
    assert flagged <= 1


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("repeats_text", {"stream": np.arange(3)}, "there are 3, too few for a passage read twice"),
        ("repeats_random", {"usual": np.arange(3)}, "there are 3, too few for a passage read twice"),
        ("repeats_random", {"longest": 8}, "it reads 8 tokens at once"),
        ("uses_context", {"longest": 90}, "too short for 96 tokens"),
        ("grammar", {}, "its tokenizer does not know the words"),
        ("languages", {}, "its tokenizer does not know the words"),
    ],
)
def test_what_is_too_large_has_a_reason(model: HeadModel, name: str, changes: dict[str, object], reason: str) -> None:
    source = source_of(model)
    for field, value in changes.items():
        setattr(source, field, value)
    with pytest.raises(NotMeasurable, match=reason):
        KINDS[name].draw(source, KINDS[name].size, source.random(name))


class Words:
    """A tokenizer of characters, which knows every text."""

    unk_token_id = None

    def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
        return {"input_ids": [ord(character) for character in text]}


@pytest.fixture
def characters() -> ItemSource:
    usual = np.arange(32, 127)
    return ItemSource(Words(), start=1, usual=usual, longest=8192, vocabulary=1 << 16, stream=usual, seed=0)


def read(probe_ids: np.ndarray) -> str:
    return "".join(map(chr, probe_ids[1:]))


def test_a_fact_is_asked_for_in_other_words_and_its_value_stands_in_the_text(characters: ItemSource) -> None:
    items = look_up(characters, Size(24), characters.random("a"))
    assert (items.count, items.parts) == (24, 4)
    lengths = set()
    for item in range(24):
        own = [probe for probe in items.probes if probe.item == item]
        text = read(own[0].ids)
        lengths.add(text.count(".") // 4)
        for probe in own:
            option = read(np.append(probe.ids, probe.targets[-1])).rsplit("\n", 1)[1].rsplit(" ", 1)[1]
            assert option in text.rsplit("\n", 1)[0]
    assert len(lengths) > 3
    # Sums are below 20, and the first option is right.
    items = ask_sums(characters, Size(48), characters.random("a"))
    for probe in items.probes:
        if 0 not in probe.parts:
            continue
        own = probe.targets[probe.parts == 0]
        whole = read(np.append(probe.ids, own[-1])).rsplit("\n", 1)[1]
        sum_, total = whole.split(" = ")
        left, right = map(int, sum_.split(" + "))
        assert left + right == int(total) < 20


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


@pytest.fixture
def explorer(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explorer]:
    settings = fakes.quick_task(tmp_path_factory.mktemp("abilities"), budget="6", recover="refit")
    with explorer_with_run("abilities", settings) as made:
        yield made


def test_a_receipt_is_measured_on_request_and_said_on_every_page(explorer: Explorer) -> None:
    explorer.detail = RECEIPT.title
    app = open_app("budget", explorer)
    assert explorer.recovery.name == "refit"
    assert find_record(explorer, RECEIPT) is None
    assert has_button(app, "abilities-strip")
    app.button(key="abilities-tab").click().run()
    record = done(explorer.job(kind_of(RECEIPT, AbilityOptions())))
    rerun(app)
    assert find_record(explorer, RECEIPT) == record
    assert record.states == ("pruned", "recovered")
    assert not has_button(app, "abilities-strip")
    assert record.summarise("recovered").replace(" ", "") in text_of(app, "markdown").replace("\\", "").replace(" ", "")
    assert len(app.table[0].value) == len(record.rows)
    line = f"abilities after refit: {record.summarise('recovered')}"
    assert line in text_of(open_app("export", explorer), "caption").replace("\\", "")
    view = on_board(explorer)
    assert view.document is not None
    assert RECEIPT.read_run(view.document) == record
    assert list_findings(explorer, view, "refit") == (line,)
    assert list_findings(explorer, view, "distill") == ()
    # What the mask was measured for reaches the card of a model also before the mask is evaluated.
    assert list_findings(explorer, replace(view, document=None), "refit") == (line,)
