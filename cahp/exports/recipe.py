"""The command and the Python lines that repeat a run."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from cahp.exports.formats import MASK_FILE
from cahp.exports.run_folder import RUN_FOLDER
from cahp.run.command_line import flags, to_arguments, to_python
from cahp.run.document import BY_HAND
from cahp.run.settings import Settings


@dataclass(frozen=True)
class Recipe:
    """The arguments of a command that repeats a run, and the same in Python."""

    command: tuple[str, ...]
    python: str

    @property
    def shell(self) -> str:
        """Return the command quoted for a shell."""
        return shlex.join(self.command)


def recipe(settings: Settings) -> Recipe:
    """Return how to repeat a run with ``settings``; a mask made by hand is read from ``head_mask.json``."""
    if settings.method == BY_HAND:
        options = flags("evaluate")
        command = ["cahp", "evaluate", "--mask", MASK_FILE, *to_arguments(settings, options)]
        python = (
            "from cahp import Settings, evaluate\n\n"
            f"found = evaluate({to_python(settings, options)}, mask={MASK_FILE!r})\n"
            'print(found["outcomes"]["pruned"]["accuracy"])'
        )
        return Recipe(tuple(command), python)
    options = flags("prune")
    command = ["cahp", "prune", *to_arguments(settings, options), "--out", RUN_FOLDER]
    python = (
        "from cahp import Settings, prune\n\n"
        f"run = prune({to_python(settings, options)})\n"
        "print(run.mask.by_layer)\n"
        'print(run.document.outcomes["pruned"]["accuracy"])'
    )
    return Recipe(tuple(command), python)
