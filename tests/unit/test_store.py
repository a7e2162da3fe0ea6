import hashlib
import json
import multiprocessing
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from cahp import store as stored
from cahp.store import Store, StoredTraining, digest_code, key
from cahp.values import CahpError, Cancelled

KEY = key("signatures", "model", {"pool_size": 32})


def entry_path(store: Store, name: str = KEY) -> Path:
    return store.folder / f"{name}.entry"


def test_a_key_is_the_digest_of_the_stage_and_of_its_canonical_parts() -> None:
    sha = hashlib.sha256()
    for part in (b"space", b'["abc",{"a":0.1,"b":[1,null]}]'):
        sha.update(len(part).to_bytes(8, "little") + part)
    assert key("space", "abc", {"b": (1, None), "a": 0.1}) == sha.hexdigest()


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        *(("methods/magnitude.py", True), ("stages/selection.py", True), ("models/attention.py", True)),
        *(("run/evidence.py", True), ("stages/roles.toml", True)),
        *(("values/statistics.py", True), ("features/luck/measuring.py", True), ("terminal/printing.py", False)),
    ],
)
def test_changed_code_finds_nothing(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, counts: bool
) -> None:
    package = tmp_path / "cahp"
    for name in ("methods", "models", "stages", "tasks", "values", "run", "terminal"):
        shutil.copytree(Path(stored.__file__).parent / name, package / name, ignore=shutil.ignore_patterns("*.pyc"))
    room = package / "features" / "luck"
    room.mkdir(parents=True)
    (room / "__init__.py").write_text("")
    (room / "measuring.py").write_text("SIDES = 6")
    monkeypatch.setattr(stored, "_PACKAGE", package)
    modules = ["cahp.methods.magnitude", "cahp.run.evidence", "cahp.features.luck"]
    before = digest_code(modules)
    assert before == digest_code(modules)
    (package / file).write_bytes((package / file).read_bytes() + b"\n# changed")
    stored._digest_package.cache_clear()
    assert (digest_code(modules) != before) is counts


def test_code_of_a_notebook_finds_nothing_once_it_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = ModuleType("notebook_without_a_file")
    monkeypatch.setitem(sys.modules, notebook.__name__, notebook)
    exec("def score(): return 1", vars(notebook))
    before = digest_code([notebook.__name__, "absent"])
    assert digest_code([notebook.__name__, "absent"]) == before
    exec("def score(): return 2", vars(notebook))
    assert digest_code([notebook.__name__, "absent"]) != before


@pytest.mark.parametrize(
    ("parts", "others"),
    [
        (("space", 1), ("space", 1.0)),
        (("space", 1), ("space", True)),
        (("space", 1), ("space", "1")),
        (("space", "ab", "c"), ("space", "a", "bc")),
        (("space", 0.1), ("space", np.nextafter(0.1, 1))),
        (("space", None), ("space",)),
        (("space", [1], 2), ("space", [1, 2])),
        (("space", 1), ("salience", 1)),
    ],
)
def test_parts_or_stages_that_differ_make_keys_that_differ(parts: tuple[Any, ...], others: tuple[Any, ...]) -> None:
    assert key(*parts) != key(*others)


@pytest.mark.parametrize(
    "part",
    [
        *({(1, 2): "a"}, {1, 2}, b"ab", np.int64(1), np.zeros(2), Path("a"), object(), [1j]),
        *(float("nan"), float("inf"), [{"a": float("-inf")}]),
    ],
)
def test_what_has_no_canonical_text_is_refused_as_part_of_a_key(part: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        key("space", part)


def test_arrays_and_json_come_back_as_they_were(tmp_path: Path) -> None:
    arrays = {
        "mean": np.arange(24, dtype=np.float64).reshape(2, 3, 4)[:, ::-1],
        "fortran": np.asfortranarray(np.eye(3, dtype=np.float32)),
        "counts": np.array([3, 4], dtype=np.int64),
        "mask": np.array([[True, False]]),
        "none": np.zeros((0, 5)),
        "scalar": np.array(7.5),
        "file": np.array(["ä", "bc"]),
    }
    meta = {"knee": 13, "rule": "polynomial-6", "nested": [None, {"x": 0.1}], "ü": "\ud800"}
    Store(tmp_path).save(KEY, arrays=arrays, meta=meta)
    found = Store(tmp_path).load(KEY)
    assert found.meta == meta
    assert list(found.arrays) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array, strict=True)


def test_a_later_result_replaces_an_earlier_one_and_a_fresh_store_finds_its_own_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fresh = Store(tmp_path, fresh=True)
    for turn in range(2):
        store.save(KEY, meta={"turn": turn})
        assert fresh.load(KEY) is None
        assert not fresh.holds(KEY)
        assert store.read(KEY, lambda entry: entry.meta) == {"turn": turn}
    fresh.save(KEY, meta={"turn": 2})
    assert fresh.holds(KEY)
    for one in (store, fresh):
        assert one.read(KEY, lambda entry: entry.meta) == {"turn": 2}
    assert [path.name for path in store.folder.iterdir()] == [f"{KEY}.entry"]


def test_python_objects_are_refused_since_keeping_them_would_take_a_pickle(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="allow_pickle"):
        store.save(KEY, arrays={"objects": np.array([object()])})
    with pytest.raises(TypeError):
        store.save(KEY, meta={"object": object()})
    assert store.load(KEY) is None


def test_the_folder_is_the_environment_s_or_the_platform_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAHP_CACHE", str(tmp_path / "named"))
    assert Store().folder.parent == tmp_path / "named"
    monkeypatch.setenv("CAHP_CACHE", "~/named")
    assert Store().folder.parent == Path.home() / "named"
    monkeypatch.delenv("CAHP_CACHE")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name, appauthor: tmp_path / name)
    assert Store().folder.parent == tmp_path / "cahp"


def test_results_that_ship_are_read_after_those_of_the_person_and_never_changed(tmp_path: Path) -> None:
    made = {"machine": "An abacus", "date": "2026-01-31"}
    Store(tmp_path / "package").save(KEY, meta={"a": 1}, made=made)
    shipped = tmp_path / "package" / "results"
    other = key("stage", 2)
    (shipped / f"{other}.entry").write_bytes(b"broken")
    store = Store(tmp_path / "own", shipped=shipped)
    found = store.load(KEY)
    assert (found.meta, found.made) == ({"a": 1}, made)
    assert store.holds(KEY)
    assert store.load(other) is None
    assert not Store(tmp_path / "own", shipped=shipped, fresh=True).holds(KEY)
    store.save(KEY, meta={"a": 2})
    own = store.load(KEY)
    assert (own.meta, own.made) == ({"a": 2}, {})
    store.remove(KEY)
    assert store.read(KEY, lambda entry: entry.meta) == {"a": 1}
    assert len(list(shipped.iterdir())) == 2


def entry(first: object = b"", rest: bytes = b"") -> bytes:
    """An entry with a right sum over whatever content, that begins with changes of a sound first line."""
    if isinstance(first, dict):
        first = json.dumps({"key": KEY, "arrays": [], "meta": {}, **first}).encode() + b"\n"
    body = bytes(first) + rest  # type: ignore[call-overload]
    return hashlib.sha256(b"cahp.store/1" + body).digest() + body


def array_of(shape: str, *, version: int = 1) -> bytes:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY" + bytes([version, 0]) + len(header).to_bytes(2 if version == 1 else 4, "little") + header


ONE = {"arrays": ["a"]}
#: What may lie where an entry was.
BROKEN = {
    "of another key": entry({"key": key("signatures", "other model")}),
    "empty": entry(),
    "no JSON": entry(b"\xff\n"),
    "nested deep": entry(b"[" * 100_000 + b"\n"),
    "an empty object": entry(b"{}\n"),
    "no object": entry(b"7\n"),
    "a list as meta": entry({"meta": []}),
    "arrays that are no list": entry({"arrays": None}),
    "arrays that are a word": entry({"arrays": "ab"}),
    "no array": entry(ONE),
    "an array beyond the memory": entry(ONE, array_of("(1000000000000,)")),
    "another beyond the memory": entry(ONE, array_of("(1000000000000,)", version=3)),
    "half an array": entry(ONE, array_of("(2,)") + bytes(8)),
    "a negative shape": entry(ONE, array_of("(-2,)") + bytes(16)),
    "more than it says": entry({}, b"more"),
}


def test_a_broken_entry_counts_as_absent_and_is_removed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(KEY, arrays={"a": np.arange(3)}, meta={"b": 1})
    whole = entry_path(store).read_bytes()
    cut = [whole[:length] for length in range(len(whole))]
    changed = [whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :] for at in range(len(whole))]
    for content in [*BROKEN.values(), *cut, *changed]:
        entry_path(store).write_bytes(content)
        assert store.load(KEY) is None, content[:200]
        assert not entry_path(store).exists()


@pytest.mark.parametrize("error", [CahpError("another shape"), KeyError("a"), ValueError("x"), TypeError()])
def test_an_entry_of_another_reader_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    store = Store(tmp_path)
    store.save(KEY, meta={"b": 1})
    assert store.read(KEY, Mock(side_effect=error)) is None
    assert "measured again" in caplog.text
    assert store.read(KEY, lambda entry: entry.meta["b"]) == 1


@pytest.mark.parametrize("error", [MemoryError, OSError, Cancelled, AttributeError])
def test_an_error_that_says_nothing_about_an_entry_leaves_it(tmp_path: Path, error: type[Exception]) -> None:
    store = Store(tmp_path)
    store.save(KEY, arrays={"a": np.arange(3)})
    with pytest.raises(error):
        store.read(KEY, Mock(side_effect=error))
    assert store.load(KEY) is not None


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_a_folder_is_its_owner_s_only_and_stays_open_to_those_they_open_it_to(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(KEY, meta={})
    assert store.folder.stat().st_mode & 0o777 == 0o700
    store.folder.chmod(0o770)
    store.save(KEY, meta={})
    assert store.folder.stat().st_mode & 0o777 == 0o770


def test_above_the_limit_the_entries_unused_for_longest_are_removed(tmp_path: Path) -> None:
    names = [key("stage", number) for number in range(4)]
    store = Store(tmp_path)
    for number, name in enumerate(names):
        store.save(name, arrays={"a": np.zeros(100)})
        # Pretend that it was last used then.
        os.utime(entry_path(store, name), (1000 + number, 1000 + number))
    assert store.load(names[0]) is not None  # now the latest one used
    size = entry_path(store, names[0]).stat().st_size
    Store(tmp_path, limit_bytes=3 * size).save(key("stage", 4), arrays={"a": np.zeros(100)})
    kept = {path.stem for path in store.folder.iterdir()}
    assert kept == {names[0], names[3], key("stage", 4)}


def test_an_entry_above_the_limit_is_not_kept_and_displaces_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path, limit_bytes=2000)
    assert store.save(KEY, meta={"small": True})
    assert not store.save(key("stage", "large"), arrays={"a": np.zeros(1000)})
    assert store.load(key("stage", "large")) is None
    assert store.load(KEY) is not None


def test_a_training_that_cannot_be_kept_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    StoredTraining(Store(tmp_path, limit_bytes=100), KEY).save({"weight": np.zeros(100)}, {})
    assert "if it is interrupted, it begins again" in caplog.text


def test_files_that_are_not_ours_are_never_removed_but_remains_of_a_killed_process_are(tmp_path: Path) -> None:
    store = Store(tmp_path, limit_bytes=2000)
    store.save(KEY, meta={})
    theirs = [tmp_path / "thesis.entry", store.folder / "notes.txt"]
    remains = store.folder / f".0123456789abcdef.{KEY}.entry"
    for path in [*theirs, remains]:
        path.write_bytes(bytes(3000))
        os.utime(path, (1, 1))
    store.save(key("stage", 1), meta={})
    assert all(path.exists() for path in theirs)
    assert not remains.exists()
    assert store.load(KEY) is not None


def test_a_useless_folder_is_reported_once_and_never_raises(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = Store(tmp_path / "file")
    for _ in range(2):
        store.save(KEY, meta={})
        assert store.load(KEY) is None
    assert [record.getMessage() for record in caplog.records] == [store.trouble]
    assert "CAHP_CACHE" in store.trouble


def test_entries_of_a_folder_that_may_only_be_read_are_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(KEY, meta={"b": 1})
    store.folder.chmod(0o500)
    if os.access(store.folder, os.W_OK):
        pytest.skip("this user may write anywhere")
    store.save(key("stage", 1), meta={})
    assert store.load(KEY) is not None
    assert store.trouble is not None


def write_often(folder: Path, writer: int) -> None:
    # A limit of about three entries, so that the processes evict each other's too.
    store = Store(folder, limit_bytes=30_000)
    for turn in range(60):
        store.save(key("stage", turn % 5), arrays={"a": np.full(1000, writer)}, meta={"writer": writer})
        found = store.load(key("stage", (turn + 2) % 5))
        if found is not None and not (found.arrays["a"] == found.meta["writer"]).all():
            raise AssertionError("an entry mixes two writers")
    if store.trouble is not None:
        raise AssertionError(store.trouble)


def test_processes_that_write_and_evict_at_once_never_meet_half_an_entry(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=write_often, args=(tmp_path, writer)) for writer in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    names = [path.name for path in Store(tmp_path).folder.iterdir()]
    assert len(names) <= 3
    assert not any(name.startswith(".") for name in names)
