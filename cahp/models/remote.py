"""A model on the hub: refused by its configuration before a weight moves, and fetched without what is not needed."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

from cahp import hub
from cahp.cards import ModelCard
from cahp.models.description import TOKENIZER_FILES, TOKENIZER_SETTINGS, Claims, check_attention, claims, describe
from cahp.models.weights import (
    ADAPTER,
    ADAPTER_CONFIG,
    CONFIG,
    INDEX,
    LARGEST_JSON,
    PICKLES,
    WEIGHTS,
    Shape,
    listed,
    only_pickles,
    read_json,
    shapes,
    stated,
)
from cahp.values import ModelError, silent

_KIND: hub.Kind = "model"


def look(name: str) -> ModelCard:
    """The card of ``org/name[@revision]`` without its weights, whose headers alone were read.

    It has no ``sha256``; ``details`` says how many bytes are ``missing`` here.

    Raises:
        ModelError: If the hub does not give it, or it cannot be used.
    """
    with hub.failures(_KIND, name, error=ModelError):
        folder, repository = _found(name)
        if repository is None:
            return describe(hub.parts(name)[0], folder.name, folder)
        said, stored = _looked(repository)
        details = {
            "bytes": sum(repository.sizes[file] for file in _weight_files(repository)),
            "parameters": sum(map(math.prod, stored.values())),
            "passes": said.passes,
            "missing": repository.missing(_needed(repository)),
        }
        return ModelCard(
            id=repository.id,
            revision=repository.commit,
            family=said.family,
            labels=said.labels,
            sha256="",
            folder=str(said.folder),
            details=details,
            kept=said.kept,
            no_refit=said.no_refit,
            no_onnx=said.no_onnx,
            language=said.language,
            **said.shape,
        )


def fetch(name: str) -> tuple[Path, str]:
    """The folder with all that is needed of ``org/name[@revision]``, fetched if it is not here, and its commit.

    Raises:
        ModelError: If the hub does not give it, it cannot be used, or nobody agrees to its size.
    """
    with hub.failures(_KIND, name, error=ModelError):
        folder, repository = _found(name)
        if repository is None:
            return folder, folder.name
        needed = _needed(repository)
        missing = repository.missing(needed)
        if missing:
            said, stored = _looked(repository)
            check_attention(said, sum(map(math.prod, stored.values())))
            _check_fit(said, stored)
            hub.agree(repository.id, missing, error=ModelError)
        return repository.fetch(needed), repository.commit


def _found(name: str) -> tuple[Path, hub.Repository | None]:
    """The folder of a model, and its repository; None if all is here and the hub is not reached or need not be."""
    whole = _whole(name)
    if whole is not None and whole.name == hub.parts(name)[1]:
        # A commit does not change.
        return whole, None
    try:
        repository = _open(name)
    except Exception as failure:
        if whole is None or not hub.is_unreachable(failure):
            raise
        return whole, None
    return _small(repository, CONFIG), repository


def _open(name: str) -> hub.Repository:
    repository = hub.Repository.open(_KIND, name)
    if CONFIG not in repository.sizes:
        raise ModelError(f"{repository.id} has no {CONFIG} on the hub; name a model that transformers can read")
    _claims(repository)
    if not any(file in repository.sizes for file in TOKENIZER_FILES):
        raise ModelError(f"{repository.id} has no tokenizer on the hub; name a model that comes with one")
    return repository


def _claims(repository: hub.Repository) -> Claims:
    size = sum(size for file, size in repository.sizes.items() if file.endswith(".safetensors"))
    return claims(repository.id, _small(repository, CONFIG), weight_bytes=size)


def _looked(repository: hub.Repository) -> tuple[Claims, dict[str, Shape]]:
    """What the configuration says, and the shapes of the weights."""
    said = _claims(repository)
    stored: dict[str, Shape] = {}
    for file in _weight_files(repository):
        stored |= _header(repository, file)
    return said, stored


def _check_fit(said: Claims, stored: dict[str, Shape]) -> None:
    """Refuse weights that do not fit their configuration before they are fetched."""
    # Here, since it imports torch.
    from cahp.models.matching import sketched_head
    from cahp.models.sketch import check_fit

    check_fit(
        said.name,
        str(said.folder),
        stored,
        names=said.labels or None,
        own_head=bool(said.labels),
        pruned=said.kept is not None,
        head=sketched_head(read_json(said.folder / CONFIG)) or "classification",
    )


def _header(repository: hub.Repository, file: str) -> dict[str, Shape]:
    here = repository.fetched(file)
    if here is not None:
        return shapes(here)
    return stated(f"{repository.id}/{file}", repository.sizes[file], partial(repository.beginning, file))


def _weight_files(repository: hub.Repository) -> list[str]:
    """The safetensors files, one or those of an index."""
    if WEIGHTS in repository.sizes:
        return [WEIGHTS]
    if INDEX in repository.sizes:
        shards = listed(_small(repository, INDEX) / INDEX)
        missing = [shard for shard in shards if shard not in repository.sizes]
        if missing:
            raise ModelError(f"{repository.id} has no {missing[0]} on the hub, which its index lists; name a revision")
        return shards
    if any(Path(file).suffix in PICKLES for file in repository.sizes):
        raise only_pickles(repository.id)
    raise ModelError(f"{repository.id} has no weights as safetensors on the hub; name a revision or model that has")


def _needed(repository: hub.Repository) -> list[str]:
    """The files that a model takes; the weights last: where they are, all else is."""
    there, weights = repository.sizes, _weight_files(repository)
    # A whole tokenizer needs no words beside it.
    tokenizer = TOKENIZER_FILES[:1] if TOKENIZER_FILES[0] in there else TOKENIZER_FILES
    adapter = (ADAPTER_CONFIG, ADAPTER) if ADAPTER_CONFIG in there else ()
    index = () if WEIGHTS in there else (INDEX,)
    beside = [file for file in (*tokenizer, *TOKENIZER_SETTINGS, *adapter, *index) if file in there]
    return [CONFIG, *beside, *weights]


def _small(repository: hub.Repository, file: str) -> Path:
    """The folder with a file that is to be read at once."""
    if repository.sizes[file] > LARGEST_JSON:
        raise ModelError(f"the {file} of {repository.id} is too large for what it is; name another model")
    return repository.fetch([file], progress=silent)


def _whole(name: str) -> Path | None:
    """The folder of a model that was fetched as a whole, as it was then."""
    repository, revision = hub.parts(name)
    config = hub.cached(_KIND, repository, CONFIG, revision)
    if config is None:
        return None
    there = {file.name for file in config.parent.iterdir()}
    needed = listed(config.parent / INDEX) if INDEX in there and WEIGHTS not in there else [WEIGHTS]
    return config.parent if there.issuperset(needed) else None
