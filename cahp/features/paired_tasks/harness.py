"""Hand a model to lm-evaluation-harness, and get the samples of its tasks back; the only place that imports it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cahp import hub
from cahp.files import is_there
from cahp.models.head_model import HeadModel
from cahp.values import OptionError
from cahp.words import first_line

EXTRA = "tasks"
#: Samples of a task, as the harness returns them.
TaskSamples = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class HarnessOptions:
    """Which ``tasks`` the harness evaluates, on how many ``items`` of each (None: all), and with the network or not."""

    tasks: tuple[str, ...]
    items: int | None = None
    network: bool = False
    seed: int = 42


def check_installed() -> None:
    """Check that the harness is installed.

    Raises:
        OptionError: If not.
    """
    if find_spec("lm_eval") is None:
        raise OptionError(
            f'--tasks needs lm-evaluation-harness, which is not installed; run pip install "cahp-explorer[{EXTRA}]"'
        )


def list_tasks(options: HarnessOptions) -> Any:
    """Load the tasks of the harness: by name, or from a YAML file.

    Raises:
        OptionError: If there is no such task, or its data cannot be read.
    """
    from lm_eval.tasks import TaskManager

    named = [name for name in options.tasks if not is_there(Path(name), Path.is_file)]
    # The thousands of files of its own tasks take the harness half a minute.
    manager = TaskManager(include_defaults=bool(named))
    for name in named:
        if name not in manager.all_tasks:
            raise OptionError(f"there is no task {name!r}; `lm-eval ls tasks` lists all, or name a YAML file")
    with _explained(options):
        return manager.load(list(options.tasks))["tasks"]


def run_tasks(model: HeadModel, tasks: Any, options: HarnessOptions) -> TaskSamples:
    """Evaluate a model on tasks that ``list_tasks`` loaded; return the samples of each by its name.

    Raises:
        OptionError: If the harness fails.
    """
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    with _explained(options):
        language_model = HFLM(
            pretrained=model.network,
            tokenizer=model.tokenizer,
            backend="causal",
            max_length=model.longest,
            batch_size=1,
        )
        results = lm_eval.simple_evaluate(
            language_model,
            tasks=list(tasks.values()),
            limit=options.items,
            log_samples=True,
            bootstrap_iters=0,
            random_seed=options.seed,
            numpy_random_seed=options.seed,
            torch_random_seed=options.seed,
            fewshot_random_seed=options.seed,
        )
    samples: TaskSamples = results["samples"]
    return samples


@contextmanager
def _explained(options: HarnessOptions) -> Iterator[None]:
    """Keep the harness quiet and off the network, and raise its failures as one sentence."""
    log = logging.getLogger("lm_eval")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with hub.offline(wanted=not options.network):
            yield
    except Exception as error:  # tasks run code of their own
        advice = "check the tasks"
        if hub.is_unreachable(error) or not options.network:
            advice = "give --yes to let it download the data of the tasks, or check the tasks"
        raise OptionError(f"lm-evaluation-harness failed ({first_line(error)}); {advice}") from error
    finally:
        log.setLevel(level)
