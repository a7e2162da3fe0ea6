"""One run: from a model and data to a mask, what it answers, costs and wins back."""

from cahp.run.bench import Bench as Bench, open_bench as open_bench
from cahp.run.evidence import find_roles as find_roles
from cahp.run.measures import MaskSubject as MaskSubject, Measure as Measure, NoOptions as NoOptions
from cahp.run.prune import choose as choose
from cahp.run.recoveries import Recovered as Recovered, cut_model as cut_model
from cahp.run.resources import Resources as Resources
from cahp.run.settings import COLUMNS as COLUMNS, Settings as Settings
