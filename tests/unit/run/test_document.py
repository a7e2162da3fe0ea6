"""What a run says of itself, and its file."""

import json
import subprocess
import sys
from typing import Any

import documents
import pytest

from cahp.files import json_text
from cahp.run.document import RunDocument
from cahp.values import CahpError


def required_paths(section: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key of the complete run but those inside free-form objects."""
    paths = []
    for name, value in section.items():
        paths.append((*path, name))
        if isinstance(value, dict) and name not in {"settings", "kept", "versions", "class_counts", "outcomes"}:
            paths += required_paths(value, (*path, name))
    return paths


#: What a reader asks for: ``metrics`` and ``delta`` repeat the outcomes.
REQUIRED = {name: value for name, value in documents.run_json().items() if name not in {"metrics", "delta"}}


@pytest.mark.parametrize("path", required_paths(REQUIRED), ids=".".join)
def test_a_run_without_a_key_of_its_schema_is_refused_by_name(path: tuple[str, ...]) -> None:
    section = run = documents.run_json()
    for name in path[:-1]:
        section = section[name]
    del section[path[-1]]
    with pytest.raises(CahpError, match=r"cahp\.run/1" if path == ("schema",) else path[-1]):
        RunDocument.from_json(run)


@pytest.mark.parametrize("run", [None, [], "run", {}, {"schema": "cahp.run/2"}, {"schema": ["cahp.run/1"]}])
def test_what_is_no_run_is_refused(run: object) -> None:
    with pytest.raises(CahpError, match=r"cahp\.run/1"):
        RunDocument.from_json(run)


def test_what_was_not_measured_may_be_null_but_not_a_number() -> None:
    nothing = {"parameters": None, "flops": None, "latency_ms": None}
    run = {**documents.run_json(), "cost": {"full": nothing, "pruned": nothing}, "latency_ratio": None, "refit": None}
    assert RunDocument.from_json(run).refit is None
    with pytest.raises(CahpError, match="broken"):
        RunDocument.from_json({**documents.run_json(), "cost": 0})
    # What is written is read back whole, and in the order of the schema.
    run = documents.run_json()
    document = RunDocument.from_json({"a later version's": 1, **dict(reversed(run.items()))})
    said = json.loads(json_text(document.to_json()))
    assert list(said)[: len(run)] == list(run)
    assert list(said)[-1] == "a later version's"
    assert list(said["model"])[-2:] == ["group", "files_sha256"]
    assert RunDocument.from_json(said) == document
    plain = run.keys() - {"model", "settings", "data", "verified", "refit"}
    assert {name: said[name] for name in plain} == {name: run[name] for name in plain}
    assert said["refit"].items() >= run["refit"].items()
    assert said["settings"].items() >= run["settings"].items()


#: What a server does when people open a run at once. What reads the first document still learns what a run consists of.
TOGETHER = """
import json, sys, threading
from cahp.run.document import RunDocument

content = json.load(sys.stdin)
gate = threading.Barrier(16)

def read():
    gate.wait()
    RunDocument.from_json(content)

sys.setswitchinterval(1e-6)
people = [threading.Thread(target=read) for _ in range(16)]
for person in people:
    person.start()
for person in people:
    person.join()
"""


def test_many_read_a_run_at_once_as_the_first_in_their_process() -> None:
    command = [sys.executable, "-c", TOGETHER]
    done = subprocess.run(command, input=json.dumps(documents.run_json()), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("kept", [{}, {"0": [0]}, {"0": [0, 3], "1": [1]}, {"0": [0], "1": [-1]}, {"0": [0], "2": [1]}])
def test_heads_that_the_model_does_not_have_are_refused(kept: dict[str, list[int]]) -> None:
    with pytest.raises(CahpError, match="kept"):
        RunDocument.from_json({**documents.run_json(), "kept": kept})
