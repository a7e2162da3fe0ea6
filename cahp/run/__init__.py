"""One run: from a model and data to a mask, what it answers, costs and wins back."""

from cahp.run.bench import Bench, open_bench
from cahp.run.evidence import find_roles
from cahp.run.measures import MaskSubject, Measure, NoOptions
from cahp.run.prune import choose
from cahp.run.recoveries import Recovered, cut_model
from cahp.run.resources import Resources
from cahp.run.settings import COLUMNS, Settings

__all__ = [
    "COLUMNS",
    "Bench",
    "MaskSubject",
    "Measure",
    "NoOptions",
    "Recovered",
    "Resources",
    "Settings",
    "choose",
    "cut_model",
    "find_roles",
    "open_bench",
]
