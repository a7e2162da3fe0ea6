"""The published experiment whole, from a small hub that has tiny models and data under the published names."""

import json
from collections.abc import Iterator
from pathlib import Path

import fakes
import pytest
import reproduce as task
from hub import Hub, asked_here, serving
from terminal import Answer, call, refused

pytestmark = pytest.mark.usefixtures("one_thread")

#: The published numbers of layers and heads, and two channels a head.
BASE = {"num_hidden_layers": 12, "num_attention_heads": 12, "hidden_size": 24, "intermediate_size": 24}
LARGE = {"num_hidden_layers": 24, "num_attention_heads": 16, "hidden_size": 32, "intermediate_size": 32}
SHORT = ("--limit", 40, "--eval-limit", 20, "--seeds", "42,", "--device", "cpu")


def lines(count: int, *, seed: int, classes: int, pairs: bool) -> bytes:
    texts = fakes.sentences(count, seed=seed, classes=classes, pairs=pairs)
    rows = [
        {"text": text} if texts.second is None else {"premise": text, "hypothesis": texts.second[row]}
        for row, text in enumerate(texts.first)
    ]
    names = ("contradiction", "entailment", "neutral") if pairs else tuple(map(str, range(classes)))
    return "".join(
        json.dumps({**row, "label": names[label]}) + "\n" for row, label in zip(rows, texts.labels, strict=True)
    ).encode()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    made = tmp_path_factory.mktemp("published")
    with serving() as hub, asked_here(hub, made / "hf"):
        for name, shape in (("bert-base-cased", BASE), ("bert-large-cased", LARGE)):
            hub.add(f"google-bert/{name}", fakes.save_model(made / name, **shape))
        sst5 = {"train": lines(60, seed=1, classes=5, pairs=False), "dev": lines(25, seed=2, classes=5, pairs=False)}
        sst5["test"] = lines(30, seed=3, classes=5, pairs=False)
        mnli = {"train": lines(60, seed=4, classes=3, pairs=True)}
        mnli |= {f"validation_{kind}": lines(25, seed=5, classes=3, pairs=True) for kind in ("matched", "mismatched")}
        for name, files in (("SetFit/sst5", sst5), ("nyu-mll/multi_nli", mnli)):
            hub.add(f"datasets/{name}", {f"{split}.jsonl": content for split, content in files.items()})
        yield hub


@pytest.fixture(scope="module")
def out(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reproduced") / "out"


@pytest.fixture(scope="module")
def answer(hub: Hub, out: Path) -> Answer:
    experiments = "bert-base-cased-sst5,bert-large-cased-mnli"
    return call("reproduce", "--out", out, "--experiments", experiments, "--report", "test", *SHORT)


@pytest.mark.nightly
def test_the_table_has_the_published_numbers_beside_ours(answer: Answer, out: Path) -> None:
    assert answer.code == 0, answer.err
    said = json.loads((out / task.FILE).read_text())
    by = {(row["experiment"], row["method"], row["recovery"]): row for row in said["rows"]}
    ours = by["bert-base-cased-sst5", "complementary", "finetune"]
    assert (ours["kept"], ours["of"], ours["published"]) == (26, 144, 51.0)
    # Only SST-5 has a published test split with labels.
    assert (ours["split"], ours["n"]) == ("test", 30)
    large = by["bert-large-cased-mnli", "complementary", "finetune"]
    assert (large["kept"], large["of"], large["published"], large["split"]) == (57, 384, 84.0, "validation")
    assert by["bert-large-cased-mnli", "all heads", "none"]["published"] == 86.5
    for method in ("complementary", "random"):
        for recovery in ("none", "mean", "refit", "distill", "finetune"):
            assert 0 <= by["bert-base-cased-sst5", method, recovery]["accuracy"] <= 1
    assert "secondary sources" in said["source"]
    table = (out / "reproduction.md").read_text()
    assert table.splitlines()[2] in answer.out
    assert "| 26 of 144 | complementary | finetune |" in table
    assert "| 51.0 |" in table


def test_an_estimate_fetches_no_weight_and_writes_nothing(hub: Hub, tmp_path: Path) -> None:
    hub.requests.clear()
    with asked_here(hub, tmp_path / "hf"):
        found = json.loads(call("reproduce", "--out", tmp_path / "out", "--estimate", "--json").out)
    assert set(hub.fetched()) == {"config.json", "model.safetensors"}
    base = fakes.save_model(tmp_path / "base", **BASE) / "model.safetensors"
    assert hub.fetched()["model.safetensors"] < base.stat().st_size
    assert [one["name"] for one in found] == [one.name for one in task.PUBLISHED]
    # MNLI has 46 times as many texts to learn from, and the large model more operations of each.
    assert found[1]["operations"] > 20 * found[0]["operations"]
    assert found[2]["operations"] > found[0]["operations"]
    assert all(one["hours_here"] > one["hours_gpu"] > 0 for one in found)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--experiments", "bert-base-cased"), "bert-base-cased-sst5"),
        (("--methods", "prayer"), "prayer"),
        (("--recover", "auto"), "auto"),
        (("--seeds", "0"), "seeds"),
    ],
)
def test_a_bad_request_is_refused_at_once(hub: Hub, options: tuple[str, ...], named: str, tmp_path: Path) -> None:
    hub.requests.clear()
    assert named in refused(call("reproduce", "--out", tmp_path / "out", *options))
    assert hub.requests == []
    assert not (tmp_path / "out").exists()
