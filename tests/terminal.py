"""A command as its users meet it: its exit code, and what it writes where."""

import contextlib
import io
import json
from dataclasses import dataclass
from typing import Any

from cahp import cli


@dataclass(frozen=True)
class Answer:
    """What one command left behind: its exit code, and what it wrote where."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


def call(*words: object) -> Answer:
    """Run one command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.run([str(word) for word in words])
    return Answer(code, out.getvalue(), err.getvalue())


def refused(answer: Answer) -> str:
    """The one sentence of a command that could not be done."""
    assert answer.code == 2
    assert answer.out == ""
    (line,) = answer.err.splitlines()
    assert line.startswith("cahp: ")
    return line.removeprefix("cahp: ")
