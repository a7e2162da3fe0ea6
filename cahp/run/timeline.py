"""The stages of a run: how progress names them, where their seconds stand in a run's file, and what people read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One stage: its ``name`` in progress reports, and its words on ``screen`` and in the ``terminal``.

    ``seconds`` is its key in ``timings`` of a run's file, ``cached`` its name in the list of what an earlier run
    answered; both are None where a run's file does not speak of it.
    """

    name: str
    screen: str
    terminal: str
    seconds: str | None = None
    cached: str | None = None


#: In the order in which a run goes through them, then those that other commands and pages have.
STAGES = (
    Stage("download", "Fetching from the hub", "fetching from the hub"),
    Stage("load", "Reading and proving the model", "reading the model"),
    Stage("signatures", "How each head attends", "watching the heads", "signatures_s", "signatures"),
    Stage("features", "How each head separates the classes", "comparing heads", "features_s"),
    # The space is found or made as a whole; its second part takes the time.
    Stage("projection", "Placing the heads in one space", "placing heads", "projection_s", "space"),
    Stage("clustering", "Clustering", "clustering for every k", "clustering_s", "clustering"),
    Stage("salience", "How much each head matters", "weighing the heads", "salience_s", "salience"),
    Stage("evaluation", "Answering the texts", "answering texts", "evaluation_s", "evaluation"),
    Stage("recovery", "Refitting", "recovery", "recovery_s", "recovery"),
    Stage("latency", "Timing", "timing", None, "latency"),
    Stage("refit", "Refitting", "refitting"),
    Stage("finetune", "Fine-tuning", "fine-tuning"),
    Stage("teacher", "Asking the full model", "asking the full model"),
    Stage("distill", "Distilling", "distilling"),
    Stage("scores", "Scoring the heads", "scoring the heads"),
    Stage("training gates", "Training gates on the heads", "training gates"),
    Stage("fit", "Training", "training"),
    Stage("compare", "Comparing", "comparing"),
    Stage("distances", "Comparing the heads", "distances"),
    Stage("habits", "What every head looks at", "what heads look at"),
    Stage("look-alikes", "Comparing it with every head", "look-alikes"),
    Stage("own text", "Reading the text", "reading the text"),
    Stage("resamples", "Choosing again", "resamples"),
    Stage("table", "Measuring every budget", "table"),
    Stage("write", "Write", "write"),
)

_BY_NAME = {stage.name: stage for stage in STAGES}


def on_screen(name: str) -> str:
    """What a stage is called on a page; a stage of somebody else's goes by its own name."""
    return _BY_NAME[name].screen if name in _BY_NAME else name.capitalize()


def in_terminal(name: str) -> str:
    """What a stage is called in a terminal; a stage of somebody else's goes by its own name."""
    return _BY_NAME[name].terminal if name in _BY_NAME else name
