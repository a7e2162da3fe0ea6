"""The stages of a run: their names in progress reports, on screen, in the terminal, and in a run's file."""

from __future__ import annotations

from dataclasses import dataclass

from cahp.words import capital


@dataclass(frozen=True)
class Stage:
    """One stage: its ``name`` in progress reports, and its words on ``screen``.

    ``seconds`` is its key in ``timings`` of a run's file, ``cached`` its name in the list of cached stages; None where
    a run's file does not mention it. ``long`` work takes minutes with many models.
    """

    name: str
    screen: str
    seconds: str | None = None
    cached: str | None = None
    long: bool = False


#: The stages of a run in their order, then those of other commands and pages.
STAGES = (
    Stage("download", "Downloading from the hub"),
    Stage("convert", "Converting the GGUF file"),
    Stage("load", "Loading and verifying the model"),
    Stage("signatures", "Collecting attention maps", "signatures_s", "signatures"),
    Stage("features", "Computing the heads' features", "features_s"),
    # The store holds features and projection together; the projection takes longer.
    Stage("projection", "Projecting the heads", "projection_s", "space"),
    Stage("clustering", "Clustering the heads", "clustering_s", "clustering"),
    Stage("salience", "Computing salience", "salience_s", "salience"),
    Stage("evaluation", "Evaluating", "evaluation_s", "evaluation"),
    Stage("recovery", "Recovering", "recovery_s", "recovery"),
    Stage("latency", "Measuring the time", None, "latency"),
    Stage("refit", "Refitting", long=True),
    Stage("gram matrices", "Preparing quick refits"),
    Stage("finetune", "Fine-tuning", long=True),
    Stage("teacher", "Evaluating the full model", long=True),
    Stage("distill", "Distilling", long=True),
    Stage("moments", "Measuring the Fisher metric"),
    Stage("scores", "Scoring the heads"),
    Stage("search", "Improving the kept heads"),
    Stage("training gates", "Training gates"),
    Stage("fit", "Training"),
    Stage("compare", "Comparing"),
    Stage("distances", "Comparing the heads"),
    Stage("roles", "Measuring roles of heads", None, "roles"),
    Stage("abilities", "Measuring abilities", None, "abilities"),
    Stage("ablation", "Removing heads of roles"),
    Stage("habits", "Measuring attention targets"),
    Stage("own text", "Evaluating the text"),
    Stage("continuation", "Continuing the text"),
    Stage("unstructured", "Clustering unstructured data"),
    Stage("resamples", "Resampling"),
    Stage("sentences", "Reading sentences"),
    Stage("table", "Measuring every budget"),
    Stage("write", "Writing"),
    Stage("upload", "Uploading to the hub"),
)

#: The stages that bring a model into memory.
PREPARATIONS = frozenset(("download", "convert", "load"))

#: The stages that let all other work that a person waits for pass.
LONG = frozenset(stage.name for stage in STAGES if stage.long)

_BY_NAME = {stage.name: stage for stage in STAGES}


def on_screen(name: str) -> str:
    """Return the words of a stage on screen; an unknown stage has its own name."""
    if name not in _BY_NAME:
        return capital(name)
    return _BY_NAME[name].screen


def in_terminal(name: str) -> str:
    """Return the words of a stage in the terminal, where they do not begin a sentence."""
    words = on_screen(name)
    return words[:1].lower() + words[1:]
