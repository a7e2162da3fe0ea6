"""A model on the hub: check its configuration before any weight is downloaded, and download only what is needed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from cahp import hub
from cahp.cards import ModelCard
from cahp.models.description import (
    TOKENIZER_FILES,
    TOKENIZER_SETTINGS,
    check_attention,
    describe,
    describe_config,
)
from cahp.models.weights import (
    ADAPTER,
    ADAPTER_CONFIG,
    CONFIG,
    INDEX,
    LARGEST_JSON,
    PICKLES,
    WEIGHTS,
    Shape,
    checked_shapes,
    pickles_error,
    read_index,
    read_json,
    read_shapes,
)
from cahp.values import ModelError, silent

_KIND: hub.Kind = "model"


def look(name: str) -> ModelCard:
    """Describe ``org/name[@revision]`` without downloading its weights: only their headers are read.

    The card has no ``sha256``; its ``details`` hold how many bytes are ``missing`` on this machine.

    Raises:
        ModelError: If the hub does not provide the model, or it cannot be used.
    """
    with hub.translate_failures(_KIND, name, error=ModelError):
        folder, repository = _locate(name)
        if repository is None:
            return describe(hub.split_name(name)[0], folder.name, folder)
        card, stored = _describe(repository, folder), _stored_shapes(repository)
        details = {
            **(card.details or {}),
            "bytes": sum(repository.sizes[file] for file in _weight_files(repository)),
            "parameters": sum(map(math.prod, stored.values())),
            "missing": repository.missing_bytes(_needed_files(repository)),
        }
        return replace(card, revision=repository.commit, details=details)


def fetch(name: str) -> tuple[Path, str]:
    """Download the missing files of ``org/name[@revision]``; return the folder with all needed files and the commit.

    Raises:
        ModelError: If the hub does not provide the model, it cannot be used, or its download has no consent.
    """
    with hub.translate_failures(_KIND, name, error=ModelError):
        folder, repository = _locate(name)
        if repository is None:
            return folder, folder.name
        needed = _needed_files(repository)
        missing = repository.missing_bytes(needed)
        if missing:
            # Imported here because it imports torch.
            from cahp.models.matching import choose_sketch_head
            from cahp.models.sketch import check_fit

            card, stored = _describe(repository, folder), _stored_shapes(repository)
            check_attention(card, sum(map(math.prod, stored.values())))
            check_fit(
                card.id,
                str(folder),
                stored,
                names=card.labels or None,
                own_head=bool(card.labels),
                pruned=card.kept is not None,
                head=choose_sketch_head(read_json(folder / CONFIG)) or "classification",
            )
            hub.require_consent(repository.id, missing, error=ModelError)
        return repository.fetch(needed), repository.commit


def _locate(name: str) -> tuple[Path, hub.Repository | None]:
    """Find the folder of a model, with its configuration at least, and its repository.

    The repository is None if the folder is complete and the hub cannot be reached or need not be asked.
    """
    complete = _complete_folder(name)
    if complete is not None and complete.name == hub.split_name(name)[1]:
        # A commit does not change.
        return complete, None
    try:
        repository = hub.Repository.open(_KIND, name)
        folder = _fetch_small(repository, CONFIG)
    except Exception as failure:
        if complete is None or not hub.is_unreachable(failure):
            raise
        return complete, None
    _describe(repository, folder)
    if not any(file in repository.sizes for file in TOKENIZER_FILES):
        raise ModelError(f"{repository.id} has no tokenizer on the hub; choose a model with a tokenizer")
    return folder, repository


def _describe(repository: hub.Repository, folder: Path) -> ModelCard:
    """Make the card of the model from the configuration in ``folder``."""
    weights = (size for file, size in repository.sizes.items() if file.endswith(".safetensors") and "/" not in file)
    return describe_config(repository.id, folder, weight_bytes=sum(weights))


def _complete_folder(name: str) -> Path | None:
    """Return the folder of a model whose files were all downloaded, as it was then, or None."""
    repository, revision = hub.split_name(name)
    config = hub.cached_file(_KIND, repository, CONFIG, revision)
    if config is None:
        return None
    present = {file.name for file in config.parent.iterdir()}
    needed = read_index(config.parent / INDEX) if INDEX in present and WEIGHTS not in present else [WEIGHTS]
    return config.parent if present.issuperset(needed) else None


def _stored_shapes(repository: hub.Repository) -> dict[str, Shape]:
    """Read the shape of each weight from the headers of the weight files."""
    stored: dict[str, Shape] = {}
    for file in _weight_files(repository):
        path = repository.local_path(file)
        if path is not None:
            stored |= read_shapes(path)
        else:
            stored |= checked_shapes(f"{repository.id}/{file}", repository.tensors(file), repository.sizes[file])
    return stored


def _weight_files(repository: hub.Repository) -> list[str]:
    """List the safetensors files: the only one, or those of the index."""
    if WEIGHTS in repository.sizes:
        return [WEIGHTS]
    if INDEX in repository.sizes:
        shards = read_index(_fetch_small(repository, INDEX) / INDEX)
        missing = [shard for shard in shards if shard not in repository.sizes]
        if missing:
            raise ModelError(
                f"{repository.id} lacks {missing[0]} on the hub, which its index lists; choose another revision"
            )
        return shards
    if any(Path(file).suffix in PICKLES for file in repository.sizes):
        raise pickles_error(repository.id)
    raise ModelError(f"{repository.id} has no weights as safetensors on the hub; choose another model or revision")


def _needed_files(repository: hub.Repository) -> list[str]:
    """List the files to download, the weights last: if they are present, everything is."""
    available, weights = repository.sizes, _weight_files(repository)
    # A complete tokenizer.json needs no vocabulary beside it.
    tokenizer = TOKENIZER_FILES[:1] if TOKENIZER_FILES[0] in available else TOKENIZER_FILES
    adapter = (ADAPTER_CONFIG, ADAPTER) if ADAPTER_CONFIG in available else ()
    index = () if WEIGHTS in available else (INDEX,)
    beside = [file for file in (*tokenizer, *TOKENIZER_SETTINGS, *adapter, *index) if file in available]
    return [CONFIG, *beside, *weights]


def _fetch_small(repository: hub.Repository, file: str) -> Path:
    """Return the folder with a JSON file that is read at once."""
    if file not in repository.sizes:
        raise ModelError(f"{repository.id} has no {file} on the hub; choose a model that transformers can read")
    if repository.sizes[file] > LARGEST_JSON:
        raise ModelError(f"{file} of {repository.id} is larger than {LARGEST_JSON:,} bytes; choose another model")
    return repository.fetch([file], progress=silent)
