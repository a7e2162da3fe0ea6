"""The stages of a run: their names in progress reports, on screen, in the terminal, and in a run's file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One stage: its ``name`` in progress reports, and its words on ``screen`` and in the ``terminal``.

    ``seconds`` is its key in ``timings`` of a run's file, ``cached`` its name in the list of cached stages; None where
    a run's file does not mention it. ``long`` work takes minutes with many models.
    """

    name: str
    screen: str
    terminal: str
    seconds: str | None = None
    cached: str | None = None
    long: bool = False


#: The stages of a run in their order, then those of other commands and pages.
STAGES = (
    Stage("download", "Downloading from the hub", "downloading"),
    Stage("convert", "Converting the GGUF file", "converting the GGUF file"),
    Stage("load", "Loading and verifying the model", "loading the model"),
    Stage("signatures", "Collecting attention maps", "collecting attention maps", "signatures_s", "signatures"),
    Stage("features", "Computing the heads' features", "computing features", "features_s"),
    # The store holds features and projection together; the projection takes longer.
    Stage("projection", "Projecting the heads", "projecting the heads", "projection_s", "space"),
    Stage("clustering", "Clustering the heads", "clustering for every k", "clustering_s", "clustering"),
    Stage("salience", "Computing salience", "computing salience", "salience_s", "salience"),
    Stage("evaluation", "Evaluating", "evaluating", "evaluation_s", "evaluation"),
    Stage("recovery", "Recovering", "recovery", "recovery_s", "recovery"),
    Stage("latency", "Measuring the time", "timing", None, "latency"),
    Stage("refit", "Refitting", "refitting", long=True),
    Stage("gram matrices", "Preparing quick refits", "preparing quick refits"),
    Stage("finetune", "Fine-tuning", "fine-tuning", long=True),
    Stage("teacher", "Evaluating the full model", "evaluating the full model", long=True),
    Stage("distill", "Distilling", "distilling", long=True),
    Stage("moments", "Measuring the Fisher metric", "measuring the Fisher metric"),
    Stage("scores", "Scoring the heads", "scoring the heads"),
    Stage("search", "Improving the kept heads", "improving the kept heads"),
    Stage("training gates", "Training gates", "training gates"),
    Stage("fit", "Training", "training"),
    Stage("compare", "Comparing", "comparing"),
    Stage("distances", "Comparing the heads", "distances"),
    Stage("roles", "Measuring roles of heads", "measuring roles of heads", None, "roles"),
    Stage("abilities", "Measuring abilities", "measuring abilities", None, "abilities"),
    Stage("ablation", "Removing heads of roles", "removing heads of roles"),
    Stage("habits", "Measuring attention targets", "measuring attention targets"),
    Stage("own text", "Evaluating the text", "evaluating the text"),
    Stage("continuation", "Continuing the text", "continuing the text"),
    Stage("unstructured", "Clustering unstructured data", "clustering unstructured data"),
    Stage("resamples", "Resampling", "resampling"),
    Stage("sentences", "Reading sentences", "reading sentences"),
    Stage("table", "Measuring every budget", "measuring every budget"),
    Stage("write", "Writing", "writing"),
    Stage("upload", "Uploading to the hub", "uploading"),
)

#: The stages that bring a model into memory.
PREPARATIONS = frozenset(("download", "convert", "load"))

#: The stages that let all other work that a person waits for pass.
LONG = frozenset(stage.name for stage in STAGES if stage.long)

_BY_NAME = {stage.name: stage for stage in STAGES}


def on_screen(name: str) -> str:
    """Return the words of a stage on screen; an unknown stage has its own name."""
    if name not in _BY_NAME:
        return name.capitalize()
    return _BY_NAME[name].screen


def in_terminal(name: str) -> str:
    """Return the words of a stage in the terminal; an unknown stage has its own name."""
    if name not in _BY_NAME:
        return name
    return _BY_NAME[name].terminal
