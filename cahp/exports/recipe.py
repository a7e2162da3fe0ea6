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
    by_hand = settings.method == BY_HAND
    verb = "evaluate" if by_hand else "prune"
    options = flags(verb)
    arguments = to_arguments(settings, options)
    if by_hand:
        command = ["cahp", verb, "--mask", MASK_FILE, *arguments]
        call = f"results = evaluate({to_python(settings, options)}, mask={MASK_FILE!r})"
        shown = ['print(results["outcomes"]["pruned"]["agreement"])']
    else:
        command = ["cahp", verb, *arguments, "--out", RUN_FOLDER]
        call = f"run = prune({to_python(settings, options)})"
        shown = ["print(run.mask.by_layer)", 'print(run.document.outcomes["pruned"]["agreement"])']
    return Recipe(tuple(command), "\n".join([f"from cahp import Settings, {verb}", "", call, *shown]))
