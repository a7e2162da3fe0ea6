"""All peers on a tiny language model: bytes exact, measured once, and in one document."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import peers
import pytest
from _cache_changes import FIRST, LATEST, drop_layers, measure_similarity
from _peer_rows import CONTEXT, REFERENCE, PeersDocument, read_document
from _peers import count_streaming
from peers import PEERS, PeersMeasured, measure_peers, summarise
from terminal import call

from cahp.models.cards import CacheShape
from cahp.run.bench import Bench
from cahp.store import Store
from cahp.values import HeadMask

pytestmark = pytest.mark.usefixtures("one_thread", "quiet_machine")


@pytest.fixture(scope="module")
def benches(window_bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Bench]:
    store = Store(tmp_path_factory.mktemp("peers"))
    return peers.open_benches(replace(window_bench.settings, mix="0"), (42, 43), store=store)


@pytest.fixture(scope="module")
def measured(benches: dict[int, Bench], one_thread: None) -> PeersMeasured:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peers, "SECONDS", 0.5)
        patch.setattr(peers, "CONTEXT", 32)
        return measure_peers(benches, articles=benches[42].evaluation)


@pytest.fixture(scope="module")
def document(benches: dict[int, Bench], measured: PeersMeasured) -> PeersDocument:
    return summarise(benches[42], measured)


def test_every_peer_is_measured_and_keeps_exactly_its_bytes(document: PeersDocument) -> None:
    every = [name for name, peer in PEERS.items() for _ in peer.cuts]
    assert (document.reasons, [row.peer for row in document.rows]) == ({}, every)
    left = {(row.peer, round(row.cut, 2)): row.bytes for row in document.rows}
    # 3 layers of 4 groups: 20 % are 2.4 of 12 groups, so 3 go; of layers 0.6, so 1 goes.
    assert left[REFERENCE, 0.2] == 9 / 12
    assert left[REFERENCE, 0.5] == 6 / 12
    assert left["layers-cosine", 0.2] == left["layers-fisher", 0.33] == 2 / 3
    # Heads of 4 channels: half of the numbers have 32 bits of scales among 64, half among 4.
    assert left["4-bit", 0.0] == (4 + (32 / 64 + 32 / 4) / 2) / 16
    assert left["4-bit-groups", 0.5] == left["4-bit", 0.0] / 2
    # 68 of 2,048 tokens stay of a streaming head, so it takes 7 groups of 12 to save half.
    assert left["streaming", 0.5] == pytest.approx(1 - 7 / 12 * (1 - 68 / 2048))
    # A float32 number takes 4 bytes, and counts with 2: 3 layers, keys and values of 4 groups of 4 channels.
    assert document.cache == 3 * 2 * 4 * 4 * 2
    # A state of 16 x 16 bytes for each of two layers with bypasses, of a cache of 3 x 32 numbers of 4 bytes.
    assert left["groups-bypass", 0.2] == pytest.approx(left[REFERENCE, 0.2] + 2 * 16 * 16 / (3 * 32 * 4 * CONTEXT))
    # More bits are nearer, and differences are paired.
    rows = {(row.peer, round(row.cut, 2)): row for row in document.rows}
    assert 0 < rows["8-bit", 0.0].kl.value < rows["4-bit", 0.0].kl.value
    nearest = min(document.at(REFERENCE), key=lambda row: abs(row.bytes - rows["8-bit", 0.0].bytes))
    assert rows["8-bit", 0.0].difference.value == pytest.approx(rows["8-bit", 0.0].kl.value - nearest.kl.value)
    assert rows[REFERENCE, 0.2].difference is None
    assert [row.articles for row in document.rows] == [row.kl for row in document.rows]
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(document.to_json())), PeersDocument) == document


def test_layers_that_change_least_are_dropped(window_bench: Bench) -> None:
    model = window_bench.model
    inputs = window_bench.calibration.inputs[:3]
    similarity = measure_similarity(model, inputs)
    alike: list[float] = []
    for layer in range(model.layers):
        values = []
        for batch in model.batches(model.tokenize(inputs), size=1):
            state = model.enter(batch)
            for below in range(layer):
                del below
                state = model.step(state)
            block = model.layer_modules[layer]
            args, kwargs = state.arguments[0]
            added, *_ = block.self_attn(block.input_layernorm(state.hidden), *args, **kwargs)
            before, after = state.hidden[0].numpy(), (state.hidden + added)[0].numpy()
            norms = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
            values += ((before * after).sum(axis=1) / norms).tolist()
        alike.append(float(np.mean(values)))
    np.testing.assert_allclose(similarity, alike, rtol=1e-4)
    mask = drop_layers(np.array([0.2, 0.9, 0.5]), 2, 4)
    assert mask.counts == (4, 0, 0)


def test_the_script_writes_two_files_and_prints_first_which_wins(window_bench: Bench, tmp_path: Path) -> None:
    settings = window_bench.settings
    words = ["experiment", "peers", settings.model, "--data", settings.data, "--device", "cpu", "--mix", "0"]
    few = ["--window", 16, "--tokens", 640, "--eval-tokens", 160, "--seeds", 42, "--only", "groups", "8-bit"]
    answer = call(*words, *few, "--no-timed", "--out", tmp_path / "peers.json")
    assert (answer.code, {file.name for file in tmp_path.iterdir()}) == (0, {"peers.json", "peers.npz"}), answer.err
    assert "of 12 groups removed save 25 % for " in answer.out.splitlines()[0]
    document = read_document(tmp_path / "peers.json")
    assert [row.peer for row in document.rows] == [REFERENCE, REFERENCE, REFERENCE, "8-bit"]
    assert json.loads((tmp_path / "peers.json").read_text())["made"]["command"].startswith("cahp experiment peers ")


def test_streaming_saves_nothing_where_a_layer_caches_few_tokens_anyway() -> None:
    # Two layers of two groups; the second caches 32 tokens, which is less than a streaming group keeps.
    shape = CacheShape(head=1, windows=((1, 32),))
    card = SimpleNamespace(layers=2, heads=2, count_cached_bytes=shape.of_context)
    full = 2 * CONTEXT + 2 * 32
    first, second = HeadMask.without([0], 2, 2), HeadMask.without([2], 2, 2)
    assert count_streaming(card, first) == pytest.approx((full - CONTEXT + FIRST + LATEST) / full)
    assert count_streaming(card, second) == 1
