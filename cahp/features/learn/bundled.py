"""The answers of the steps that ship with the package, in the folder of a bundled run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import msgspec

from cahp.api.bundled import NAME, RUNS, run_folder
from cahp.features.learn.lessons import Answer
from cahp.features.learn.scene import Scene

#: The answers of the six steps.
LESSONS_FILE = "lessons.json"


@dataclass(frozen=True)
class BundledLessons:
    """The ``scene`` of a bundled run and the answers of its steps, by name; ``subject`` is the digest of what they
    depend on."""

    subject: str
    scene: Scene
    answers: Mapping[str, Answer]
    made: Mapping[str, str]


@cache
def read_lessons(name: str = NAME) -> BundledLessons | None:
    """Read the bundled answers about a model; None if this copy of the package has none."""
    if name not in RUNS:
        return None
    try:
        return msgspec.json.decode((run_folder(name) / LESSONS_FILE).read_bytes(), type=BundledLessons)
    except FileNotFoundError:
        return None
