"""Convert a GGUF file by transformers' own reader: configuration and tokenizer first, weights when they are needed.

Before that, its header is read within bounds: readers make objects for every entry that a header lists, and take memory
for every size that it states. The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import copy
import re
import shutil
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import transformers
from gguf import GGUFReader, GGUFValueType
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, modeling_gguf_pytorch_utils
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from cahp.files import scratch
from cahp.models.cards import ModelCard
from cahp.models.devices import check_room
from cahp.models.matching import LOADING, check_fit, lost_weights, quiet
from cahp.values import Cancelled, ModelError, Progress
from cahp.words import first_line

STAGE = "convert"
#: Readers take about 500 bytes for each entry (of metadata, of its lists, of the table of tensors), and an entry of a
#: vocabulary has a row of weights: entries that any file may have, and bytes of the file for each further one.
_ENTRIES = 10_000
_BYTES_PER_ENTRY = 32
#: Merges of a vocabulary may be computed from all parts of its words: sum of the squares of their lengths that any
#: file may have beyond the number of its bytes.
_SQUARES = 10_000_000
#: Formats of numbers that are no blocks of few bits.
_PLAIN = ("F64", "F32", "F16", "BF16", "I8", "I16", "I32", "I64")
_BITS = re.compile(r"(?:I?Q|TQ|MXFP|NVFP)(\d)")
#: Entries of a configuration that say where it comes from, one of them a text that the file may choose.
_ORIGIN = ("quantization_config", "_name_or_path", "_model_name_or_path", "name_or_path")
#: Bytes of memory for each number while weights are converted (measured: 4.7), and in the file of weights.
_BYTES_PER_NUMBER = 6
_FLOAT32 = 4
_LINK = "model.gguf"
#: A text by which tokenizers are compared.
_SAMPLE = "The film wasn't bad: 42 of 100 liked it!\n\n  Élan, naïveté & 日本 in <2024>."
_OPTIONS = {"gguf_file": _LINK, "trust_remote_code": False, "local_files_only": True}


class Header(GGUFReader):
    """The header of a GGUF file; of lists, such as the vocabulary, only the end is found.

    ``architecture`` is its name, and ``numbers`` the count of numbers in all tensors.

    Raises ``ValueError`` if it lists more than the bytes of the file can hold.
    """

    def __init__(self, path: Path) -> None:
        self._size = path.stat().st_size
        self._entries = _ENTRIES + self._size // _BYTES_PER_ENTRY
        self._squares = _SQUARES + self._size
        with path.open("rb") as file:
            version, tensors, values = struct.unpack("<4xIQQ", file.read(24))
        if version & 0xFFFF == 0:
            raise ValueError("it is big-endian")
        self._spend(tensors + values)
        super().__init__(path)
        if not self.tensors or not all(tensor.n_elements for tensor in self.tensors):
            raise ValueError("it holds no weights")
        # No two tensors share bytes.
        if sum(tensor.n_bytes for tensor in self.tensors) > self._size:
            raise ValueError("its weights take more bytes than it has")
        if self.get("split.count", 0) not in (0, 1):
            raise ValueError("it is a part of a model; join the parts with `llama-gguf-split --merge`")
        self.architecture = str(self.get("general.architecture", ""))
        if not re.fullmatch(r"[\w.-]{1,60}", self.architecture, re.ASCII):
            raise ValueError("it names no architecture")
        self.numbers = int(sum(tensor.n_elements for tensor in self.tensors))
        layers = self.get(f"{self.architecture}.block_count", 0)
        if not isinstance(layers, int) or layers > len(self.tensors):
            raise ValueError(f"it claims {layers} layers and holds {len(self.tensors):,} tensors")

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
        if raw_type != GGUFValueType.ARRAY:
            return super()._get_field_parts(orig_offs, raw_type)
        data: Any = memoryview(self.data)  # type: ignore[arg-type]
        kind, count = struct.unpack_from("<IQ", data, orig_offs)
        self._spend(count)
        end = orig_offs + 12
        if kind == GGUFValueType.STRING:
            for _ in range(count):
                (length,) = struct.unpack_from("<Q", data, end)
                end += 8 + length
                self._squares -= length**2
                if self._squares < 0:
                    raise ValueError("it lists longer words than a model of its size has")
        else:
            end += count * np.dtype(self.gguf_scalar_to_np[GGUFValueType(kind)]).itemsize
        if end > self._size:
            raise ValueError("a list ends beyond it")
        return end - orig_offs, [], [], [GGUFValueType.ARRAY]

    def _spend(self, entries: int) -> None:
        self._entries -= entries
        if self._entries < 0:
            raise ValueError("it lists more entries than a model of its size has")

    def get(self, name: str, default: Any = None) -> Any:
        """Return a single value of the metadata."""
        if name not in self.fields:
            return default
        return self.fields[name].contents()


def read_header(path: Path) -> Header:
    """Read and check the header of a GGUF file; no weights are read.

    Raises:
        ModelError: If it is damaged or cut short, is a part of a model, or claims more than its bytes can hold.
    """
    try:
        return Header(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check its permissions") from None
    except Exception as error:  # damaged files raise anything
        raise ModelError(
            f"{path} is not a whole GGUF file that can be read ({first_line(error)}); download or convert it again"
        ) from None


def write_description(name: str, path: Path, folder: Path, progress: Progress) -> tuple[int, list[str]]:
    """Write configuration and tokenizer of the file at ``path`` into ``folder``.

    Returns the count of its weights, and notes about the model.

    Raises:
        ModelError: If they cannot be read; OSError: if they cannot be written.
    """
    header = read_header(path)
    module = modeling_gguf_pytorch_utils
    # Parsed once for both: each time takes seconds, most of them for the words of the vocabulary.
    parse = lru_cache(module.load_gguf_checkpoint)
    once = patch.object(module, "load_gguf_checkpoint", lambda file, return_tensors=False: copy.deepcopy(parse(file)))
    with quiet(), LOADING, once, _read(name, path, header) as place:
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
    notes = []
    counts = Counter[str]()
    for tensor in header.tensors:
        counts[tensor.tensor_type.name] += int(tensor.n_elements)
    ((kind, _),) = counts.most_common(1)
    if kind not in _PLAIN:
        bits = _BITS.match(kind)
        named = "quantized"
        if bits is not None:
            named = f"{bits[1]}-bit"
        notes.append(f"{named} weights ({kind}) expanded to float32, not the published ones")
    scaled = header.get(f"{header.architecture}.rope.scaling.type", "none") != "none"
    scaled = scaled or any(tensor.name.startswith("rope_") for tensor in header.tensors)
    rope = getattr(config, "rope_parameters", None) or {}
    if scaled and rope.get("rope_type", "default") == "default":
        notes.append(
            "the file scales positions for long texts, which transformers leaves out when it reads GGUF: answers "
            "differ from those of the published model, most in long texts"
        )
    return header.numbers, notes


def write_weights(card: ModelCard, path: Path, folder: Path, progress: Progress) -> None:
    """Write the weights of the file at ``path``, in float32, into ``folder``; ``card`` has the rest of the model.

    Raises:
        ModelError: If they do not fit the configuration or the memory, or some are missing; OSError: if they cannot be
            written.
    """
    header = read_header(path)
    needed = _BYTES_PER_NUMBER * header.numbers
    advice = "use a machine with more memory, or a smaller model"
    check_room(torch.device("cpu"), needed, f"converting {card.id} takes", advice)
    # Weights that the file lacks are drawn at random before they can be refused.
    check_fit(card, {"": (header.numbers,)}, own_head=False, head="causal")
    # Of architectures that transformers reads anew, it would keep the blocks, and ask the hub for code that reads them.
    blocks = getattr(transformers, "GgufConfig", None)
    expand = {}
    if blocks is not None:
        expand["quantization_config"] = blocks(dequantize=True)
    steps = len(header.tensors) + 1

    def report(tensors: Iterable[Any], **_: Any) -> Iterator[Any]:
        for done, tensor in enumerate(tensors):
            progress(STAGE, done, steps)
            yield tensor

    with quiet(), _read(card.id, path, header) as place:
        # Another's reports would reach this one's listener. The bar cannot be switched off.
        with LOADING, patch.object(modeling_gguf_pytorch_utils, "tqdm", report):
            network, loading = AutoModelForCausalLM.from_pretrained(
                place,
                **_OPTIONS,
                **expand,
                dtype=torch.float32,
                attn_implementation="eager",
                output_loading_info=True,
            )
        if lost := sorted({*loading["missing_keys"], *(str(key) for key, *_ in loading["mismatched_keys"])}):
            raise ModelError(lost_weights(card.id, lost, "are missing in its GGUF file"))
        # transformers does not save what it read from GGUF.
        with torch.device("meta"):
            config = AutoConfig.from_pretrained(card.folder, trust_remote_code=False)
            plain = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        plain.load_state_dict(network.state_dict(), assign=True)
        plain.tie_weights()
        held = sum(int(tensor.n_elements) for tensor in header.tensors if not tensor.name.startswith("rope_"))
        left_out = held - sum(weights.numel() for weights in plain.parameters())
        if left_out > 0:
            raise ModelError(
                f"{card.id} holds {left_out:,} weights that transformers leaves out when it reads GGUF, such as "
                "biases of attention; name a folder with safetensors weights"
            )
        # In one file.
        plain.save_pretrained(folder, max_shard_size=2 * _FLOAT32 * header.numbers)
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
            reason = first_line(error)
            if "is not supported yet" in reason:
                reason = f"transformers {transformers.__version__} has no reader for {header.architecture}"
            raise ModelError(
                f"{name} cannot be read ({reason}); download or convert the GGUF file again, or name a folder with "
                "safetensors weights"
            ) from None
