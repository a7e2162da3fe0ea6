"""``cahp fit``: a classifier on an encoder, to be pruned like any other."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from cahp.cli.command import Call, command, folder
from cahp.cli.options import OPTIONS, REQUIRED, Option
from cahp.run.command_line import to_arguments
from cahp.run.settings import COLUMNS

_DATA = OPTIONS["data"].but(default=REQUIRED, help="Labelled texts to learn from.")
_OUT = OPTIONS["out"].but(default=REQUIRED, help="Folder for the classifier.")
_MODEL = OPTIONS["model"].but(default="minilm")
_SCHEDULE = (
    OPTIONS["epochs"].but(default=None, high=1000, help="Passes over the training texts; without, 4, or 3 of --whole."),
    OPTIONS["learning_rate"].but(default=None, help="Highest learning rate; without, 5e-4, or 2e-5 of --whole."),
    "batch",
)
_OWN = (
    Option("rank", "Rank of the low-rank adapters (LoRA).", int, 16, low=1, high=256),
    Option("whole", "Train all weights, as the paper does; resumed where it stopped.", bool, False, ("--whole",)),
    Option("save", "model: a whole checkpoint; adapter: the adapter alone.", default="model"),
    OPTIONS["limit"].but(default=None, fills=False, help="Training texts at most."),
)
#: What the classifier's heads are chosen with next.
_NEXT = {name: f"--{name.replace('_', '-')}" for name in ("model", "data", *COLUMNS)}


@command(_DATA, _OUT, "force", _MODEL, *_SCHEDULE, *_OWN, "seed", "device", *COLUMNS, "as_json", "yes", "quiet")
def fit(
    call: Call,
    out: Path,
    force: bool,
    epochs: int | None,
    learning_rate: float | None,
    batch: int,
    rank: int,
    whole: bool,
    save: str,
    limit: int | None,
) -> None:
    """Train a classifier on an encoder with low-rank adapters, or whole; the best epoch on validation is kept."""
    from cahp.tasks import fit as task
    from cahp.terminal.printing import fitted

    asked_for = {"epochs": epochs, "learning_rate": learning_rate, "batch": batch}
    with folder(out, force) as output, call.bars() as progress, call.telling(fitted):
        found = task.fit(
            call.settings,
            out=output,
            save=save,
            schedule={name: value for name, value in asked_for.items() if value is not None},
            rank=rank,
            whole=whole,
            store=call.store,
            limit=limit,
            progress=progress,
        )
    use = ""
    if save == "model":
        asked = to_arguments(replace(call.settings, model=str(output.folder)), _NEXT)
        use = f": choose its heads with {shlex.join(['cahp', 'prune', *asked])}"
    call.answer(found, [*fitted(found), f"{output.describe()}{use}"])
