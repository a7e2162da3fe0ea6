"""The help of a command: its options in sections, those that everybody needs first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from typer.core import TyperCommand, TyperOption

from cahp import methods

#: The sections in their order, with the names of the parameters in each.
SECTIONS: Mapping[str, Sequence[str]] = {
    "Needed most": (
        "name",
        "arguments",
        "run",
        "site",
        "model",
        "data",
        "text",
        "answer",
        "mask",
        "budget",
        "methods",
        "budgets",
        "out",
    ),
    "Model and data": (
        *("limit", "eval_limit", "sample", "select_split", "eval_split", "max_length", "splits", "documents"),
        *("pair", "text_column", "pair_column", "label_column", "label_map", "neutral_data", "prompt", "answers"),
        *("window", "stride", "bos", "tokens", "mix", "eval_tokens", "batch", "length"),
    ),
    "Choice of heads": (
        *("method", "goal", "min_per_layer", "min_first_layers", "even", "select_time", "seed", "poly_degree"),
        *("pool_size", "projection", "salience", "representative", "preset", "seeds", "tries", "draws"),
    ),
    "Recovery and training": (
        *("recover", "recover_data", "recover_time", "labels", "epochs", "learning_rate", "rank", "whole"),
    ),
    "Measuring": (
        *("measure", "roles", "abilities", "latency", "latency_time", "precision", "repeats", "sweep", "report"),
        *("ablate", "estimate", "top"),
    ),
    "Server": ("host", "port", "token", "public", "data_root", "browser"),
    "Output and machine": (
        *(
            "format",
            "push",
            "push_public",
            "save",
            "static",
            "force",
            "as_json",
            "yes",
            "quiet",
            "no_cache",
            "device",
            "dtype",
            "jobs",
        ),
        *("cluster", "samples_out", "help"),
    ),
}
_SECTION_OF = {name: section for section, names in SECTIONS.items() for name in names}
#: The section of options that features add to their measures.
_OF_MEASURES = "Measuring"
_METHODS = "{methods}"


class SectionedCommand(TyperCommand):
    """A command whose help has sections, and in whose options ``{methods}`` stands for the names of all methods."""

    def get_params(self, ctx: Any) -> Any:
        """Return the options, with the names of the methods, which no other command waits for."""
        parameters = super().get_params(ctx)
        for parameter in parameters:
            if isinstance(parameter, TyperOption) and parameter.help and _METHODS in parameter.help:
                parameter.help = parameter.help.replace(_METHODS, ", ".join(methods.names()))
        return parameters

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, section by section."""
        rows: dict[str, list[tuple[int, tuple[str, str]]]] = {section: [] for section in SECTIONS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                # An argument's name says enough without its type.
                words = record[0].split(" <")[0], record[1]
                section = section_of(parameter)
                names = SECTIONS[section]
                place = len(names)
                if parameter.name in names:
                    place = names.index(parameter.name)
                rows[section].append((place, words))
        for section, found in rows.items():
            if found:
                ordered = [record for _, record in sorted(found, key=lambda row: row[0])]
                with formatter.section(section):
                    formatter.write_dl(ordered)


def section_of(parameter: Any) -> str:
    """Return the section of a command's parameter."""
    return _SECTION_OF.get(parameter.name, _OF_MEASURES)
