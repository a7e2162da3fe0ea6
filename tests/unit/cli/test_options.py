"""One table of options: what a command takes, the house can spell, and what it spells, a command takes."""

from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from cahp import cli, methods
from cahp.cli.command import OPTIONS, REQUIRED
from cahp.run.settings import Setting, Settings, describe, flags, to_arguments

PARSERS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
COMMANDS = {one.name: one for one in cli.COMMANDS}
FILLING = {name: [option for option in one.options if option.fills] for name, one in COMMANDS.items()}
NAMED = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
LABELS = NAMED.filter(lambda label: "=" not in label and label == label.strip())
AWKWARD = st.sampled_from(['"', '"a', 'a"', "a,b", "a b", "'", "\\", "a\nb", "a\r\nb", ",", "-", "ä"])


def values_of(setting: Setting) -> st.SearchStrategy[Any]:
    """What a field can be by its description alone."""
    if setting.choices:
        return st.sampled_from(setting.choices)
    if setting.kind is bool:
        return st.booleans()
    if setting.kind is int:
        return st.integers(int(setting.low), None if setting.high is None else int(setting.high))
    return st.floats(setting.low, setting.high, allow_nan=False) if setting.kind is float else NAMED


#: What each field of ``Settings`` can be; those that are not listed are described well enough.
VALUES: dict[str, st.SearchStrategy[Any]] = {
    **{name: values_of(setting) for name, setting in describe().items()},
    "method": st.sampled_from(methods.names()),
    "budget": st.sampled_from(["auto", "7", "15%"]),
    "goal": st.sampled_from(["agreement=95%", "kl=0.05", "accuracy-loss=1", "time=-20%"]),
    "min_per_layer": st.integers(0, 4),
    "min_first_layers": st.integers(0, 4),
    **dict.fromkeys(("recover_time", "select_time"), st.sampled_from(["90", "30s", "2m", "1.5h"])),
    "mix": st.sampled_from(["0", "repeats=10%", "repeats=5%,notes.txt=2.5%"]),
    "latency_time": st.sampled_from(["5s", "90", "1m"]),
    "label_map": st.dictionaries(LABELS | AWKWARD, LABELS | AWKWARD, max_size=3),
    "splits": st.dictionaries(LABELS, LABELS, max_size=3),
    # Where there is a prompt there are answers, so both are drawn.
    "prompt": st.sampled_from(["{text} It was", "a \"{premise}\",\n'{hypothesis}'? {mask}."]),
    "answers": st.lists(LABELS, min_size=2, max_size=4, unique=True).map(tuple),
    "measure": st.sampled_from([(), ("neutral",), ("neutral", "roles")]),
}


def typed(name: str, line: list[str]) -> Settings:
    """The settings of a command line, as the command would be called with them."""
    context = PARSERS[name].make_context(name, list(line))
    return COMMANDS[name].settings(context.params)


def must_be_given(name: str) -> list[str]:
    """Values, for a parser, of what a command cannot do without and no setting says."""
    wanted = [option for option in COMMANDS[name].options if option.default is REQUIRED and not option.fills]
    return [word for option in wanted for word in ([] if option.argument else [f"--{option.name}"]) + ["somewhere"]]


@pytest.mark.parametrize("name", [name for name, options in FILLING.items() if options])
@settings(max_examples=30)
@given(drawn=st.data())
def test_settings_come_back_from_the_command_line_that_spells_them(name: str, drawn: st.DataObject) -> None:
    spelled = {option.name: option.flags[0].partition("/")[0] for option in FILLING[name]}
    asked = Settings(**{field: drawn.draw(VALUES[field], label=field) for field in spelled})
    line = to_arguments(asked, spelled)
    # What is not said is the command's own default, which is the usual one except where a command must differ.
    line += [word for field in own_defaults(name) for word in (spelled[field], str(getattr(asked, field)))]
    assert typed(name, [*must_be_given(name), *line]) == asked


def own_defaults(name: str) -> list[str]:
    """Fields for which a command has another default than ``Settings``."""
    return [option.name for option in FILLING[name] if option.default != OPTIONS[option.name].default]


def test_only_fit_differs_from_the_usual_settings() -> None:
    own = {name: own_defaults(name) for name in COMMANDS if own_defaults(name)}
    assert own == {"fit": ["data", "model"]}
    assert to_arguments(Settings(), flags("prune")) == []
    assert typed("prune", []) == typed("evaluate", []) == typed("export", must_be_given("export")) == Settings()
