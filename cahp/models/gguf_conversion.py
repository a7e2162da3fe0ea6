"""Convert a GGUF file by transformers' own reader: configuration and tokenizer first, weights when they are needed."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, modeling_gguf_pytorch_utils
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from cahp.files import scratch
from cahp.models.cards import ModelCard
from cahp.models.devices import free_bytes
from cahp.models.gguf import Header
from cahp.models.sketch import LOADING, check_fit, lost_weights, quiet
from cahp.values import Cancelled, ModelError, Progress
from cahp.words import first_line, size_of

STAGE = "convert"
#: Entries of a configuration that say where it comes from, one of them a text that the file may choose.
_ORIGIN = ("quantization_config", "_name_or_path", "_model_name_or_path", "name_or_path")
#: Bytes of memory for each number while weights are converted (measured: 4.7), and in the file of weights.
_BYTES_PER_NUMBER = 6
_FLOAT32 = 4
_LINK = "model.gguf"
#: A text by which tokenizers are compared.
_SAMPLE = "The film wasn't bad: 42 of 100 liked it!\n\n  Élan, naïveté & 日本 in <2024>."
_OPTIONS: dict[str, Any] = {"gguf_file": _LINK, "trust_remote_code": False, "local_files_only": True}


def write_description(name: str, path: Path, folder: Path, header: Header, progress: Progress) -> tuple[str, ...]:
    """Write configuration and tokenizer of the file at ``path`` into ``folder``; return notes about the model.

    Raises:
        ModelError: If transformers cannot read them; OSError: if they cannot be written.
    """
    with quiet(), _parsed_once(), _read(name, path, header) as place:
        progress(STAGE, 0, 2)
        config = AutoConfig.from_pretrained(place, **_OPTIONS)
        network = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
        if not isinstance(network, str):
            raise ModelError(
                f"{name} is of the architecture {header.architecture}, of which transformers has no causal "
                "language model; name another model"
            )
        entries = {key: value for key, value in config.to_dict().items() if key not in _ORIGIN}
        config = type(config)(**{**entries, "architectures": [network], "dtype": "float32"})
        progress(STAGE, 1, 2)
        tokenizer = AutoTokenizer.from_pretrained(place, **_OPTIONS)
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        saved = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        if saved(_SAMPLE)["input_ids"] != tokenizer(_SAMPLE)["input_ids"]:
            raise ModelError(
                f"the tokenizer of {name} splits texts in another way once it is saved; name a folder with safetensors "
                "weights and the model's own tokenizer"
            )
        progress(STAGE, 2, 2)
    rope = getattr(config, "rope_parameters", None) or {}
    if header.scales_positions and rope.get("rope_type", "default") == "default":
        return (
            "the file scales positions for long texts, which transformers leaves out when it reads GGUF: answers "
            "differ from those of the published model, most in long texts",
        )
    return ()


def write_weights(card: ModelCard, path: Path, folder: Path, header: Header, progress: Progress) -> None:
    """Write the weights of the file at ``path``, in float32, into ``folder``; ``card`` has the rest of the model.

    Raises:
        ModelError: If they do not fit the configuration or the memory, or some are missing; OSError: if they cannot be
            written.
    """
    needed = _BYTES_PER_NUMBER * header.numbers
    room = free_bytes(torch.device("cpu"))
    if room is not None and needed > room:
        raise ModelError(
            f"converting {card.id} takes {size_of(needed)} of memory, and {size_of(room)} are free; use a machine with "
            "more memory, or a smaller model"
        )
    # Weights that the file lacks are drawn at random before they can be refused.
    check_fit(card, {"": (header.numbers,)}, names=None, own_head=False, head="causal")
    # Of architectures that transformers reads anew, it would keep the blocks, and ask the hub for code that reads them.
    blocks = getattr(transformers, "GgufConfig", None)
    expand = {}
    if blocks is not None:
        expand["quantization_config"] = blocks(dequantize=True)
    with quiet():
        with _read(card.id, path, header) as place, _reported(progress):
            network, report = AutoModelForCausalLM.from_pretrained(
                place,
                **_OPTIONS,
                **expand,
                dtype=torch.float32,
                attn_implementation="eager",
                output_loading_info=True,
            )
            if lost := sorted({*report["missing_keys"], *(str(key) for key, *_ in report["mismatched_keys"])}):
                raise ModelError(lost_weights(card.id, lost, "are missing in its GGUF file"))
            # transformers does not save what it read from GGUF.
            with torch.device("meta"):
                config = AutoConfig.from_pretrained(card.folder, trust_remote_code=False)
                plain = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
            plain.load_state_dict(network.state_dict(), assign=True)
            plain.tie_weights()
            held = sum(count for tensor, (_, count) in header.tensors.items() if not tensor.startswith("rope_"))
            left_out = held - sum(weights.numel() for weights in plain.parameters())
            if left_out > 0:
                raise ModelError(
                    f"{card.id} holds {left_out:,} weights that transformers leaves out when it reads GGUF, such as "
                    "biases of attention; name a folder with safetensors weights"
                )
        # In one file.
        plain.save_pretrained(folder, max_shard_size=2 * _FLOAT32 * header.numbers)
        steps = len(header.tensors) + 1
        progress(STAGE, steps, steps)


@contextmanager
def _read(name: str, path: Path, header: Header) -> Iterator[str]:
    """Make a folder from which transformers reads the file at ``path``; its failures become one sentence.

    From the folder of the file itself, transformers would also use what lies beside it.
    """
    with scratch() as folder:
        link = folder / _LINK
        try:
            link.symlink_to(path.resolve())
        except OSError:  # where links are not allowed
            try:
                os.link(path, link)
            except OSError:
                shutil.copyfile(path, link)
        try:
            yield str(folder)
        except (ModelError, Cancelled):
            raise
        except BaseException as error:  # damaged files raise anything, also a panic in Rust, which is no Exception
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            if isinstance(error, OSError) and error.errno is not None:
                raise
            if "is not supported yet" in str(error):
                raise ModelError(
                    f"{name} is of the architecture {header.architecture}, which transformers "
                    f"{transformers.__version__} cannot read from GGUF; name a folder with safetensors weights"
                ) from None
            raise ModelError(
                f"{name} cannot be read ({first_line(error)}); download or convert the GGUF file again, or name a "
                "folder with safetensors weights"
            ) from None


def _parsed_once() -> AbstractContextManager[None]:
    """Let transformers parse a file without its tensors once: it does so for the configuration and for the tokenizer.

    Each time takes seconds, most of them for the words of the vocabulary.
    """
    parsed: dict[str, Any] = {}

    def remember(parse: Callable[..., Any]) -> Callable[..., Any]:
        def parse_once(path: str, return_tensors: bool = False, **more: Any) -> Any:
            if return_tensors or more:
                return parse(path, return_tensors=return_tensors, **more)
            if path not in parsed:
                parsed[path] = parse(path)
            return copy.deepcopy(parsed[path])

        return parse_once

    return _replaced("load_gguf_checkpoint", remember)


def _reported(progress: Progress) -> AbstractContextManager[None]:
    """Report each tensor that transformers converts, instead of its bar, which cannot be switched off."""

    def report(tensors: Iterable[Any], **_: Any) -> Iterator[Any]:
        every = list(tensors)
        for done, tensor in enumerate(every):
            progress(STAGE, done, len(every) + 1)
            yield tensor

    return _replaced("tqdm", lambda _: report)


@contextmanager
def _replaced(name: str, replace: Callable[[Any], Any]) -> Iterator[None]:
    """Replace a function of transformers' module for GGUF inside the block by what ``replace`` makes of it."""
    # Another's reports would reach this one's listener.
    with LOADING:
        own = getattr(modeling_gguf_pytorch_utils, name)
        setattr(modeling_gguf_pytorch_utils, name, replace(own))
        try:
            yield
        finally:
            setattr(modeling_gguf_pytorch_utils, name, own)
