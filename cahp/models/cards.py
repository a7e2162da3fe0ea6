"""Models before their weights are read: costs, card, prompt, and the heads of an architecture.

Most architectures have no row in ``FAMILIES``: ``cahp.models.matching`` makes a ``Family`` from their structure. A row
is for layers that are shared (ALBERT), or saves the time of the match (BERT and its kin). It needs a ``config.json``
with BERT's names of sizes (``num_hidden_layers``, ``num_attention_heads``, ``hidden_size``).
"""

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from cahp.files import read_beside
from cahp.recoveries import RANK
from cahp.tasks import CLASSIFICATION, NEXT_TOKEN, Task
from cahp.tasks.task import TaskWords
from cahp.values import Estimate, Fields, HeadMask, Input, JsonObject, ModelError, Names, Notices, OptionError, digest
from cahp.words import size_of

#: What removing heads saves first: time, or of a causal language model the memory of its cache.
Saving = Literal["time", "cache"]
#: Default seconds for timing a model.
LATENCY_SECONDS = 5.0
#: Numbers of tokens in the contexts at which the generation of text is timed.
CONTEXTS = (128, 1024, 4096)
#: A machine is noisy if the 95th percentile of a model's times is more than this many times their median.
NOISY = 1.25
#: How the notice of noisy times begins.
BUSY = "the machine was busy while latency was measured"


@dataclass(frozen=True)
class SelectionCost:
    """What a method needs to choose heads: forward passes of one example and labels.

    ``forwards`` counts passes through the whole model; a backward pass counts as two.
    """

    forwards: float
    labels: int


@dataclass(frozen=True)
class Timing:
    """Latency of one batch in milliseconds: ``repeats`` runs of ``batch`` texts of ``length`` tokens."""

    median: float
    p95: float
    batch: int
    length: int
    repeats: int

    @property
    def noisy(self) -> bool:
        """Whether the machine was busy: the slowest twentieth took more than ``NOISY`` times the median."""
        return self.p95 > NOISY * self.median


@dataclass(frozen=True)
class Cost:
    """Weights, floating-point operations per text, and latency of one batch; None where not measured."""

    parameters: int | None
    flops: int | None
    latency_ms: Timing | None

    @property
    def noisy(self) -> bool:
        """Whether a busy machine disturbed its latency."""
        return self.latency_ms is not None and self.latency_ms.noisy


@dataclass(frozen=True)
class Throughput:
    """Tokens per second of the ``full`` and the ``pruned`` model at a ``context`` of so many tokens.

    ``ratio`` is the median ratio of their times, pruned / full (below 1: faster).
    """

    context: int
    full: float
    pruned: float
    ratio: Estimate


@dataclass(frozen=True)
class GenerationSpeed:
    """How fast a causal language model reads a context (``prefill``) and then writes one token (``decode``).

    ``batch`` texts run at a time, and their tokens count together. ``left_out`` tells what was not timed, and why.
    """

    prefill: tuple[Throughput, ...]
    decode: tuple[Throughput, ...]
    left_out: Names = ()
    batch: int = 1


@dataclass(frozen=True)
class Costs:
    """Cost of the full and the pruned model, their latency ratio, and attention's share of the full forward pass.

    A causal language model has a ``speed``, too (None: another model). Its latency is that of the shortest prefill.
    """

    full: Cost
    pruned: Cost
    ratio: Estimate
    attention_share: float
    speed: GenerationSpeed | None = None

    @property
    def noisy(self) -> bool:
        """Whether the machine was busy while either model was timed."""
        return bool(self.notices)

    @property
    def notices(self) -> Notices:
        """What the reader should know about these times."""
        if not (self.full.noisy or self.pruned.noisy):
            return ()
        return (
            f"{BUSY}: the slowest times are more than {NOISY} times the median; raise --latency-time, or measure again "
            "on an idle machine",
        )


# The cache of keys and values -------------------------------------------------------------------------------------


#: The memory for which the longest context is given: 1 GiB.
CACHE_MEMORY = 1 << 30
#: Longer contexts count as any.
_LONGEST = 1 << 40


@dataclass(frozen=True)
class CacheShape:
    """The size of the keys and values that a causal language model caches, counted from its configuration.

    For each token, a layer caches ``head`` bytes for each of its heads (key-value groups), which leave the cache with
    the head, and ``shared`` bytes as long as it keeps a head; without heads it caches nothing. ``windows`` are pairs
    of a layer's index and the number of the latest tokens that it caches; other layers cache all tokens. The model
    reads at most ``positions`` tokens (None: any number). A number takes ``width`` bytes.
    """

    head: int
    shared: int = 0
    windows: tuple[tuple[int, int], ...] = ()
    positions: int | None = None
    width: int = 4

    def per_token(self, mask: HeadMask) -> int:
        """Bytes per token of the model cut to ``mask``, in a context no longer than any window."""
        return self.of_context(mask, 1)

    def of_context(self, mask: HeadMask, tokens: int) -> int:
        """Bytes of a context of so many ``tokens`` of the model cut to ``mask``."""
        windows = dict(self.windows)
        return sum(
            (self.head * len(heads) + self.shared) * min(tokens, windows.get(layer, tokens))
            for layer, heads in enumerate(mask.by_layer)
            if heads
        )

    def longest(self, mask: HeadMask, memory: int = CACHE_MEMORY) -> int | None:
        """The longest context in tokens whose cache fits in ``memory`` bytes, at most ``positions`` (None: any)."""
        most = self.positions
        if most is None:
            most = _LONGEST
        tokens = bisect_right(range(1, most + 1), memory, key=lambda tokens: self.of_context(mask, tokens))
        if tokens == _LONGEST:
            return None
        return tokens

    def ratio(self, mask: HeadMask) -> Estimate:
        """The bytes per token of the model cut to ``mask`` relative to the full model's: counted, without interval."""
        return Estimate(self.per_token(mask) / self.per_token(mask.unpruned), None, 0, "ratio")


@dataclass(frozen=True)
class KvCache:
    """Bytes of keys and values per token of the full and of the pruned model, and how they were counted.

    ``longest_full`` and ``longest_pruned`` are the longest contexts in tokens whose cache fits in ``memory`` bytes, at
    most the positions of the model (None: any).
    """

    full: int
    pruned: int
    longest_full: int | None
    longest_pruned: int | None
    shape: CacheShape
    memory: int = CACHE_MEMORY

    @property
    def share(self) -> float:
        """The bytes of the pruned model relative to the full model's."""
        return self.pruned / self.full


# Models before their weights are read ---------------------------------------------------------------------------------

#: What a tap gets the inputs of: a layer's attention, its output projection (which reads the gated context vectors of
#: its heads), or the first or second projection of its feed-forward block.
Site = Literal["attention", "output", "feed_in", "feed_out"]
#: The meaning of a size attribute of an attention module.
Size = Literal["heads", "units", "channels"]
#: The place of the normalisation in a layer: after each sum (``post``), or before each block (``pre``).
Residual = Literal["post", "pre"]

#: So many times the rounding may logits differ that should be equal.
ALLOWED_ROUNDING = 4


@dataclass(frozen=True)
class Rows:
    """The order of a projection's output channels.

    A block for each of ``parts``, ordered by head, in which a head has so many times its size (more than one for
    queries that share keys and values); then ``shared`` times a head's size that belong to all heads.
    """

    parts: tuple[int, ...] = (1,)
    shared: int = 0


@dataclass(frozen=True)
class Family:
    """Module paths and special cases of an architecture.

    ``layers`` starts at the base model (the network without its head), the others at a layer. ``attention`` is the
    module that computes the attention weights. ``inputs`` are the projections whose *output* channels belong to heads,
    with their order (query, key and value in one matrix: three blocks, each ordered by head; a fused matrix that is
    ordered by head first: one block). ``output`` is the projection whose *input* channels belong to heads, ``feed_out``
    the second projection of the feed-forward block (None: not known; a refit then solves only ``output``). If
    normalisation comes after the sum, the input of ``feed_in`` is added to the output of ``feed_out``.
    """

    layers: str
    attention: str
    inputs: Mapping[str, Rows]
    output: str
    feed_out: str | None = None
    feed_in: str | None = None
    #: Projections of heads that are kept whole where heads are cut, because a normalisation reads all of them.
    uncut: Mapping[str, Rows] = field(default_factory=dict)
    #: Other projections whose output channels belong to heads, such as those of positions.
    extra_inputs: Names = ()
    #: Parameters with one entry, or one stretch of entries, for each head.
    vectors: Names = ()
    residual: Residual = "post"
    #: Attention is computed by a function that can be replaced by ours; otherwise see ``weights``.
    interface: bool = True
    #: Without that interface: the dropout module of the attention weights, below ``attention``. Without either, only
    #: the weights that the network returns are known, and cannot be edited.
    weights: str | None = None
    #: Attributes of the attention module with its number of query heads, of units that are cut, or of channels.
    sizes: Mapping[str, Size] = field(default_factory=dict)
    #: An argument of the attention module with one plane of scores for each head.
    planes: str | None = None
    #: Queries, keys or a bias on scores are computed for all heads, and those of cut heads are then left out.
    selects: bool = False
    #: A path below each of ``layers`` with several layers, whose weights are used in many passes.
    shared: str | None = None
    #: Each layer has its own arguments (such as its attention window).
    own_arguments: bool = False
    #: Attention is causal.
    causal: bool = False
    #: It can cache keys and values for the next token.
    caches: bool = False
    #: Largest number of tokens with full attention (None: any).
    longest: int | None = None
    #: Entries of the configuration to change, which does not change an answer.
    settings: Mapping[str, str] = field(default_factory=dict)
    #: Positions are counted from the padding token's index, so there are fewer than in the configuration.
    offset_positions: bool = False
    #: The description of the structure by which it was matched (None: known by name).
    matched: str | None = None
    #: The reason why heads can be masked but not cut out.
    no_cut: str | None = None
    #: Where attention is fused, pooled maps are equal with and without whole maps.
    pools: bool = True
    #: Layers can be run one by one.
    walks: bool = True
    #: The first layers can be left out: the others need only their hidden states.
    tails: bool = True

    @property
    def refits(self) -> tuple[Site, ...]:
        """The projections that a refit solves."""
        if self.feed_out is None or not self.walks:
            return ("output",)
        return ("output", "feed_out")

    @property
    def edits(self) -> bool:
        """Whether attention weights can be replaced while the network runs."""
        return self.interface or self.weights is not None


#: What makes a mask fit where layers must keep the same number of heads.
EVENLY = "choose heads with --even"
#: Why an architecture cannot be a plain checkpoint with fewer heads, such as those below.
DERIVED_SIZE = (
    "its class cannot have fewer heads of the same size (where that is the width over the number of heads, fewer heads "
    "would be larger ones)"
)

_BERT = Family(
    layers="encoder.layer",
    attention="attention.self",
    inputs={f"attention.self.{name}": Rows() for name in ("query", "key", "value")},
    output="attention.output.dense",
    feed_in="intermediate.dense",
    feed_out="output.dense",
)
#: Families by the ``model_type`` of a configuration.
FAMILIES: dict[str, Family] = {
    "albert": Family(
        layers="encoder.albert_layer_groups",
        shared="albert_layers",
        attention="attention",
        inputs={f"attention.{name}": Rows() for name in ("query", "key", "value")},
        output="attention.dense",
        feed_in="ffn",
        feed_out="ffn_output",
    ),
    **dict.fromkeys(("bert", "electra"), _BERT),
    **dict.fromkeys(("camembert", "roberta", "xlm-roberta"), replace(_BERT, offset_positions=True)),
}

_REASONS = read_beside(__file__)
#: Architectures that cannot be used, and why; those that cannot be exported as ONNX; and language models that cannot be
#: with their cache.
REFUSED: dict[str, str] = _REASONS["refused"]
NO_ONNX: dict[str, str] = _REASONS["no_onnx"]
NO_ONNX_CACHE: dict[str, str] = _REASONS["no_onnx_cache"]


def check_architecture(name: str, kind: str) -> None:
    """Check that the model ``name`` of the architecture ``kind`` can be used.

    Raises:
        ModelError: If not.
    """
    if kind in REFUSED:
        raise ModelError(f"{name} is of the architecture {kind}, which {REFUSED[kind]}; name another model")


def count_positions(config: Any, *, offset: bool) -> int | None:
    """Return how many tokens a configuration has positions for (None: any number); MPT's has a name of its own.

    With ``offset`` positions are counted from the padding token's index.
    """
    positions: int | None = getattr(config, "max_position_embeddings", None) or getattr(config, "max_seq_len", None)
    if positions is not None and offset:
        positions -= (config.pad_token_id or 0) + 1
    return positions


#: The kind of a language model: it continues a text (``causal``) or fills a gap in it (``masked``).
Language = Literal["causal", "masked"]

#: How weights are kept in memory: in float32, as their file stores them, or rounded to bfloat16.
Dtype = Literal["float32", "auto", "bfloat16"]

_PLACE = re.compile(r"\{([A-Za-z_]+)\}")
_LONGEST_PROMPT = 20_000
_MOST_ANSWERS = 1_000


@dataclass(frozen=True)
class Prompt:
    """A prompt and its expected answers: the next word of a text, or the word in a gap, is the class.

    ``template`` has the places ``{text}``, or ``{premise}`` and ``{hypothesis}`` for pairs, and ``{mask}`` for the gap
    of a masked model; ``answers`` are the classes, in the order of their scores.

    Raises:
        OptionError: If a place is missing, unknown or repeated, or there are fewer than two different answers.
    """

    template: str
    answers: tuple[str, ...]

    @property
    def settings(self) -> JsonObject:
        """The settings that give this prompt."""
        return {"prompt": self.template, "answers": self.answers}

    def __post_init__(self) -> None:
        object.__setattr__(self, "answers", tuple(answer.strip() for answer in self.answers))
        places = _PLACE.findall(self.template)
        known = sorted(set(places) - {"mask"}) in (["text"], ["hypothesis", "premise"])
        if not known or len(set(places)) < len(places):
            raise OptionError(
                "the prompt must hold {text} once, or {premise} and {hypothesis} for pairs, and {mask} at most once, "
                'as in "{text} It was"'
            )
        different = len(set(self.answers) - {""})
        if len(self.template) > _LONGEST_PROMPT or not max(2, len(self.answers)) <= different <= _MOST_ANSWERS:
            raise OptionError(
                f"a prompt needs 2 to {_MOST_ANSWERS:,} different answers, one for each class, as in --answers "
                f'"terrible,great", and at most {_LONGEST_PROMPT:,} characters'
            )

    @property
    def pairs(self) -> bool:
        """Whether the inputs are pairs of texts."""
        return "{premise}" in self.template

    @property
    def masked(self) -> bool:
        """Whether the answer fills a gap."""
        return "{mask}" in self.template

    def render(self, example: Input, mask: str = "{mask}") -> str:
        """Fill in a text or a pair, with ``mask`` in the gap."""
        if isinstance(example, str):
            example = (example, "")
        first, second = example
        values = {"text": first, "premise": first, "hypothesis": second, "mask": mask}
        # In one pass, so that braces inside a text are no places.
        return _PLACE.sub(lambda place: values[place[1]], self.template)


def make_prompt(prompt: str | None, answers: Sequence[str]) -> Prompt | None:
    """The prompt of a template and its answers (None: neither is given).

    Raises:
        OptionError: If one lacks the other, or they have no sense.
    """
    if prompt is None and not answers:
        return None
    if prompt is None or not answers or isinstance(answers, str):
        raise OptionError(
            'a prompt and its answers belong together; add --prompt "{text} It was" and --answers "terrible,great"'
        )
    return Prompt(prompt, tuple(answers))


@dataclass(frozen=True)
class AnswerToken:
    """An answer and its first token, ``shown`` as text; ``whole`` if it has no other token."""

    word: str
    token: int
    shown: str
    whole: bool


@dataclass(frozen=True)
class PromptExample:
    """An input in its prompt, ``prompted``, and the answers that a language model may give."""

    prompted: str
    answers: tuple[AnswerToken, ...]

    @property
    def notice(self) -> str | None:
        """What the user should know about answers of several tokens."""
        parts = [f"{answer.word!r} by {answer.shown!r}" for answer in self.answers if not answer.whole]
        if not parts:
            return None
        return f"answers of several tokens are recognised by their first: {', '.join(parts[:20])}"


@dataclass(frozen=True)
class ModelCard:
    """The description of a model before its weights are read.

    ``heads`` is the number of units that can be removed from a layer. Each stands for ``group`` query heads that share
    keys and values, and has ``head_size`` channels of the output projection. ``labels`` are the class names in the
    order of the logits. ``origin`` is the digest of configuration, tokenizer and weights, which lie in ``folder``; it
    is empty if the weights were not downloaded (``cahp.models.preview``). ``kept`` lists the heads of each layer if the
    model was pruned before. ``no_refit``, ``no_cut`` and ``no_onnx`` are the reasons, if any, why projections cannot be
    refitted, heads can be masked but not cut, and the model cannot be exported as ONNX. ``places`` are the indices of
    the layers with heads, if some have none. A language model (``language``) has no classes of its own: they are the
    answers of its ``prompt``; without one a causal model ``predicts_tokens``. ``source`` is the GGUF file that is
    converted into ``folder``, if any; ``origin`` is then made from its digest. ``cache`` is the size of the keys and
    values that a causal language model caches (None: another model, or the size is not known). A bypass has
    ``word_functions`` of each token (None: there can be no bypass). ``dtype`` says how weights are kept. Of a longer
    text ``max_length`` tokens are read (None: what the model reads, at most 512).
    """

    id: str
    revision: str | None
    family: str
    layers: int
    heads: int
    head_size: int
    hidden: int
    labels: Names
    origin: str
    folder: str
    adapter: str | None = None
    details: Fields = field(default_factory=dict, hash=False)
    group: int = 1
    kept: tuple[tuple[int, ...], ...] | None = None
    no_refit: str | None = None
    notes: Notices = ()
    language: Language | None = None
    prompt: Prompt | None = None
    no_cut: str | None = None
    no_onnx: str | None = None
    places: tuple[int, ...] | None = None
    source: str | None = None
    cache: CacheShape | None = None
    word_functions: int | None = None
    dtype: Dtype = "float32"
    max_length: int | None = None

    @property
    def identity(self) -> str:
        """The digest of the model with its prompt and rounded weights, however much of a text it reads."""
        sha256 = self.origin
        if self.prompt is not None:
            sha256 = digest(sha256, "prompt", self.prompt.template, *self.prompt.answers)
        if self.dtype == "bfloat16" and self.details.get("types", {}).keys() != {"BF16"}:
            sha256 = digest(sha256, self.dtype)
        # The card of a preview has no digest.
        return self.origin and sha256

    @property
    def sha256(self) -> str:
        """The digest of all that changes an answer, for keys of results; windows have a length of their own."""
        if self.predicts_tokens:
            return self.identity
        return self.origin and digest(self.identity, "max_length", str(self.max_length))

    @property
    def total(self) -> int:
        """The number of heads of all layers."""
        return self.layers * self.heads

    @property
    def full_mask(self) -> HeadMask:
        """The mask that keeps every head."""
        return HeadMask.full(self.layers, self.heads)

    @property
    def attention_weights(self) -> float | None:
        """Share of the weights in the projections of attention: the most that pruning heads can remove."""
        details = self.details
        attention = details.get("attention")
        every = details.get("parameters")
        if not attention or not every or self.kept is not None:
            return None
        return float(attention / every)

    @property
    def predicts_tokens(self) -> bool:
        """Whether it is a language model that is measured on the tokens of texts, without a prompt."""
        return self.task.predicts_often

    @property
    def unit(self) -> str:
        """What is kept or pruned, as sentences call it: a head, or a group of heads that share keys and values."""
        return "head" if self.group == 1 else "group"

    @property
    def task(self) -> Task:
        """What it predicts: without classes, the next tokens of texts if it is a causal language model."""
        if self.language == "causal" and not self.labels:
            return NEXT_TOKEN
        return CLASSIFICATION

    @property
    def no_next_token(self) -> str:
        """The reason why it predicts no next tokens of a text, with or without a prompt (empty: it does)."""
        if self.language == "causal":
            return ""
        return "it is not a causal language model"

    @property
    def words(self) -> TaskWords:
        """The words for what it predicts, and for what it is measured on."""
        return self.task.words

    @property
    def describes_task(self) -> str:
        """What it does, in words."""
        if self.labels:
            return f"{len(self.labels)} classes"
        return f"predicts the {self.words.answer}"

    @property
    def longest_context(self) -> int | None:
        """The most tokens that a causal language model keeps keys and values of (None: no limit, or another model)."""
        if self.cache is None:
            return None
        return self.cache.positions

    @property
    def saves(self) -> Saving:
        """What removing its heads saves first: memory of a language model that caches keys and values, or else time."""
        return "time" if self.cache is None else "cache"

    def count_cached_bytes(self, mask: HeadMask, context: int) -> int:
        """Count the bytes of keys and values that it caches of a context (0: it caches none)."""
        if self.cache is None:
            return 0
        return self.cache.of_context(mask, context)

    def measure_cache(self, mask: HeadMask) -> KvCache | None:
        """Count the cache of keys and values with all heads and under a mask (None: it has none)."""
        shape = self.cache
        if shape is None:
            return None
        every = mask.unpruned
        return KvCache(shape.per_token(every), shape.per_token(mask), shape.longest(every), shape.longest(mask), shape)

    def count_cache_ratio(self, mask: HeadMask) -> Estimate | None:
        """Count the bytes of its cache under a mask relative to all heads (None: it has no cache)."""
        if self.cache is None:
            return None
        return self.cache.ratio(mask)

    def describe_bypass(self, mask: HeadMask, rank: int) -> str:
        """Describe what bypasses add in the layers that lost heads."""
        said = f"adds {mask.cut_layers * self.weigh_bypass(rank) / 1e6:.1f} M weights"
        if self.cache is not None:
            # The token before, and three running means, in float32.
            said += f" and a state of {size_of(16 * rank * mask.cut_layers)} a text, whatever its length"
        return said

    def choose_rank(self, rank: int | None) -> int:
        """Return the ``rank`` of a bypass (None: the usual one, but at most the hidden size)."""
        if rank is None:
            rank = min(RANK, self.hidden)
        return rank

    def weigh_bypass(self, rank: int) -> int:
        """Count the weights of the bypass of a layer; see ``cahp.models.compact.Bypass``."""
        return (1 + (self.word_functions or 0)) * rank * self.hidden

    @property
    def cacheable_weights(self) -> float | None:
        """``attention_weights`` of a causal language model, whose cache they bound (None: another model)."""
        if self.cache is None:
            return None
        return self.attention_weights
