"""Prove on every load that the heads of a model can be read, gated and cut.

A trial run first completes the family of a model that was matched by its structure: architectures of one shape differ
in how attention weights can be read, whether layers can be run one by one, and which sums a layer computes. Then every
gate must close its head alone, and cutting heads must equal masking them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from cahp.models.attention import IMPLEMENTATION, Arguments, pools_alike
from cahp.models.cards import ALLOWED_ROUNDING, Family, Site
from cahp.models.devices import tolerance
from cahp.models.head_model import Batch, HeadModel, LayerState, Verified
from cahp.models.matching import names_in_forward
from cahp.models.surgery import cut
from cahp.values import CahpError, HeadMask, ModelError, SelfTestError
from cahp.words import first_line


def measure_rounding(model: HeadModel, batches: Iterable[Batch]) -> float:
    """Compare the logits of a model with fused attention and with attention step by step: both are right.

    Returns the largest ``relative_difference`` of a batch. Some processors round large sums more than others, and some
    language models turn rounding in float32 into differences above 1e-4 at single tokens.
    """
    differences = []
    for batch in batches:
        fused = model.logits(batch, vocabulary=True)
        in_steps = model.logits(batch, vocabulary=True, probe=lambda layer, weights: None)
        differences.append(relative_difference(fused, in_steps))
    return max(differences)


def relative_difference(expected: Tensor, found: Tensor) -> float:
    """The largest difference of two tensors, relative to the largest expected number where that is above 1."""
    return float((expected - found).abs().max()) / max(1.0, float(expected.abs().max()))


_SENTENCES = (
    "The quick brown fox jumps over the lazy dog.",
    "A head that attends elsewhere must change what the layer says, and this sentence is a little longer.",
)
#: Largest difference between two ways to compute the same numbers, relative to their size: logits with our attention
#: function and with the library's own, hidden states, and equal rows of a batch.
_CLOSE = 1e-4
#: Number of random masks under which a masked and a cut model are compared.
_MASKS = 2


def _make_batch(model: HeadModel, texts: int, *, length: int) -> Batch:
    tokens = model.tokenize(model.examples(_SENTENCES)[:texts], max_length=min(length, model.max_length))
    return model.batches(tokens)[0]


# Completing a family -----------------------------------------------------------------------------------------------


def probe_family(model: HeadModel) -> HeadModel:
    """Complete the family of a model that was matched by its structure; other models are returned unchanged.

    Raises:
        SelfTestError: If our attention function changes its logits.
        ModelError: If it has no attention maps over its tokens, or needs more than text.
    """
    if model.family.matched is None:
        return model
    try:
        return _probe(model)
    except CahpError:
        raise
    except Exception as error:  # an unknown network raises anything
        raise ModelError(
            f"{model.card.id} cannot classify a plain sentence ({first_line(error)}): its configuration is not "
            "consistent, or it needs more than text; save it again, or name another model"
        ) from None


def _probe(model: HeadModel) -> HeadModel:
    batch = _make_batch(model, 2, length=32)
    with torch.inference_mode():
        # As few passes as possible: large models are slow even with short texts.
        left: list[Tensor] = []
        ours = model.logits(batch, leaving=left.append, vocabulary=True)
        if model.family.interface:
            if not bool(ours.isfinite().all()):
                raise SelfTestError(
                    f"the logits of {model.card.id} are not finite numbers; check its weights in float32"
                )
            if model.card.kept is None:
                # A model that was not pruned is compared with the library's own attention function.
                model.network.set_attn_implementation("eager")
                try:
                    theirs = model.logits(batch, vocabulary=True)
                finally:
                    model.network.set_attn_implementation(IMPLEMENTATION)
                difference = relative_difference(theirs, ours)
                if not difference <= _CLOSE:
                    raise SelfTestError(
                        f"{model.card.id} computes its attention in a way that is not supported: its logits differ by "
                        f"{difference:.1e} from those of transformers; name another model"
                    )
        family = _find_maps(model, batch)
        model = model.with_network(model.network, family=family)
        steps = _run_layers(model, batch, left)
        if steps is None:
            family = replace(family, walks=False, tails=False, feed_out=None, feed_in=None)
            return model.with_network(model.network, family=family)
        # Otherwise an argument depends on earlier layers or on the layer's index. Equal numbers are not enough: masks
        # of different windows are equal on a short text.
        calls = steps[0][0].arguments
        same = all(_same(call, calls[0]) for call in calls)
        # Some networks get the arguments by a layer's own kind and not by its index.
        tails = same or "attention_type" in names_in_forward(model.network.base_model)
        family = replace(_find_sums(model, steps, family), own_arguments=not same, tails=tails)
        return model.with_network(model.network, family=family)


def _find_maps(model: HeadModel, batch: Batch) -> Family:
    """The family of a model, with a way to read its attention weights."""
    ways = [model.family]
    if model.family.weights is not None:
        ways.append(replace(model.family, weights=None))
    length = batch.tensors["input_ids"].shape[1]
    heads = {model.heads}
    if model.card.kept is not None:
        heads.update(map(len, model.card.kept))
    having = [layer for layer in range(model.layers) if _heads_of(model, layer)]
    for family in ways:
        seen: list[tuple[int, Tensor]] = []
        trial = model.with_network(model.network, family=family)
        trial.logits(batch, probe=lambda layer, maps, seen=seen: seen.append((layer, maps)))  # type: ignore[misc]
        # Once each: a layer that also weights other things in the same way would appear twice.
        layers = sorted(layer for layer, _ in seen)
        if layers == having and all(_are_maps(maps, heads, length) for _, maps in seen):
            real = batch.tensors["attention_mask"].cpu().bool()
            fused = family.interface and getattr(model.network, "_supports_sdpa", True)
            pools = fused and pools_alike(lambda probe: trial.logits(batch, probe=probe), dict(seen), real)  # noqa: B023
            return replace(family, pools=pools)
    raise ModelError(
        f"{model.card.id} has no attention weights between the tokens of a text, which are needed to compare its "
        "heads; name another model"
    )


def _are_maps(maps: Tensor, heads: Collection[int], length: int) -> bool:
    """Whether a tensor can be the attention maps of texts of ``length`` tokens, for one of these numbers of heads."""
    return (
        maps.ndim == 4
        and maps.shape[1] in heads
        and maps.shape[2:] == (length, length)
        and float(maps.min()) >= 0
        and float(maps.sum(-1).max()) < 1 + _CLOSE
    )


#: The states before the first layer and after each, and the inputs of each layer's projections.
Steps = tuple[list[LayerState], list[dict[Site, Tensor]]]


def _run_layers(model: HeadModel, batch: Batch, left: list[Tensor]) -> Steps | None:
    """Run the layers one by one; None if their outputs are not those of a whole pass (``left``)."""
    seen = [dict[Site, Tensor]() for _ in range(model.layers)]

    def watch(site: Site, layer: int, entering: Tensor) -> None:
        ids = batch.tensors["input_ids"]
        if entering.ndim == 2 and len(entering) == ids.numel():
            # OPT joins the tokens of all texts in its feed-forward block.
            entering = entering.reshape(*ids.shape, -1)
        seen[layer][site] = entering

    try:
        states = [model.enter(batch)]
        for layer in range(model.layers):
            states.append(model.step(states[-1], tap=watch))
            # Outputs of layers without heads are compared after the next layer with heads.
            if len(model.stack) == model.layers and not _close(states[-1].hidden, left[layer]):
                return None
    except Exception:  # layers that cannot be called one by one raise anything
        return None
    if len(left) != model.layers or (len(model.stack) <= model.layers and not _close(states[-1].hidden, left[-1])):
        return None
    return states, seen


def _same(left: object, right: object) -> bool:
    if isinstance(left, tuple | list) and isinstance(right, tuple | list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(value, right[name]) for name, value in left.items())
    return left is right or (isinstance(left, float | int | str) and left == right)


def _find_sums(model: HeadModel, steps: Steps, family: Family) -> Family:
    """The family with the place of its normalisation, or without a feed-forward block where that is not known."""
    without_feed = replace(family, feed_out=None, feed_in=None)
    if family.feed_out is None or len(model.stack) > model.layers:
        return without_feed
    pre = True
    post = family.feed_in is not None
    states, inputs = steps
    for layer, seen in enumerate(inputs):
        state, after = states[layer : layer + 2]
        if seen.keys() < {"output", "feed_out"}:
            return without_feed
        attended = model.projection(layer).module(seen["output"])
        fed = model.projection(layer, "feed_out").module(seen["feed_out"])
        real = state.real
        pre &= _close((state.hidden + attended + fed)[real], after.hidden[real])
        post &= (
            "feed_in" in seen
            and seen["feed_in"].shape == fed.shape
            and _normalised((state.hidden + attended)[real], seen["feed_in"][real])
            and _normalised((seen["feed_in"] + fed)[real], after.hidden[real])
        )
    if pre:
        return replace(family, residual="pre", feed_in=None)
    if post:
        return replace(family, residual="post")
    return without_feed


def _close(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and bool((left - right).abs().max() <= _CLOSE * max(1.0, float(right.abs().max())))


def _normalised(entering: Tensor, leaving: Tensor) -> bool:
    """Whether ``leaving`` (tokens, channels) is ``entering`` after a layer's normalisation, whatever its weights."""
    wanted = leaving - leaving.mean(0)
    # BERT and its kin have the second epsilon, most others the first.
    for epsilon in (1e-5, 1e-12):
        scaled = torch.nn.functional.layer_norm(entering, entering.shape[-1:], eps=epsilon)
        centred = scaled - scaled.mean(0)
        slopes = (centred * wanted).sum(0) / (centred * centred).sum(0).clamp_min(1e-12)
        if _close(centred * slopes, wanted):
            return True
    return False


# Gates and surgery -------------------------------------------------------------------------------------------------


def verify(model: HeadModel) -> Verified:
    """Check gates and surgery of ``model`` on two short texts.

    Every gate of every layer is tested: all heads of a layer are rows of one batch, and all layers are tested in one
    pass, since each continues from the row whose gates are open.

    Raises:
        ModelError: If its heads were cut in this process.
        SelfTestError: If a gate does not close its head's channels and no others, or does not change its layer's
            output; if all gates at 0 do not change the logits; or if the logits of a masked and of a cut model differ
            by more than the device's tolerance, relative to the largest logit where that is above 1.
    """
    if model.card.kept is None and set(model.head_counts) != {model.heads}:
        raise ModelError(f"heads of {model.card.id} were cut out of it before; use the model that it was cut from")
    batch = _make_batch(model, 2, length=32)
    generator = np.random.default_rng(0)
    masks = list[HeadMask]()
    count = _MASKS
    if model.card.kept is not None:
        # A model that was cut before cannot be cut again.
        count = 0
    for _ in range(count):
        keep = generator.random((model.layers, model.heads)) < 0.5
        # Uneven on purpose, but no layer empty.
        keep[np.arange(model.layers), generator.integers(model.heads, size=model.layers)] = True
        masks.append(HeadMask(keep))
    # Each text with open gates, with closed gates, and under each mask: one pass instead of many small ones.
    keeps = np.stack([np.ones((model.layers, model.heads)), np.zeros((model.layers, model.heads))])
    gates = torch.cat([model.gates(keeps), *(model.gates(mask.keep)[None] for mask in masks)])
    full, shut, *masked = model.logits(
        _repeated(batch, len(gates)), gates=gates.repeat_interleave(len(batch), dim=0), vocabulary=True
    ).chunk(len(gates))
    if torch.equal(full, shut):
        raise SelfTestError(
            f"switching off all heads of {model.card.id} does not change its logits, so masks have no effect; name "
            "another model"
        )
    idle = _count_idle_heads(model)
    differences = []
    for mask, logits in zip(masks, masked, strict=True):
        pruned = cut(model, mask)
        found = pruned.logits(batch, vocabulary=True)
        differences.append(_compare_logits(model, logits, found, partial(measure_rounding, pruned, [batch])))
    return Verified(sum(model.head_counts) - idle, idle, len(masks), max(differences, default=None))


def _repeated(batch: Batch, times: int) -> Batch:
    """Repeat the texts of a batch, one copy after the other."""
    return Batch(
        np.tile(batch.rows, times),
        batch.lengths.repeat(times),
        {name: tensor.repeat(times, *[1] * (tensor.ndim - 1)) for name, tensor in batch.tensors.items()},
    )


def _count_idle_heads(model: HeadModel) -> int:
    """Test every gate, and count the heads whose output weights are all zero."""
    batch = _make_batch(model, 1, length=12)
    heads = model.heads
    # One row with every gate open, then one row a head with that head's gate closed, and the open row again. Each layer
    # continues from the open row, so that all layers are tested in one pass.
    many = _repeated(batch, heads + 2)
    open_ = torch.ones(1, heads, device=model.device)
    rows = torch.cat([open_, 1 - torch.eye(heads, device=model.device), open_])
    #: Of each layer the heads whose gate is wrong, and those that change its output.
    wrong: dict[int, Tensor] = {}
    moved: dict[int, Tensor] = {}
    #: The layer whose output projection ran last.
    current: list[int] = []

    def take(site: Site, layer: int, context: Tensor) -> None:
        """Check the input of an output projection: one head's channels are 0, all others as in the open row."""
        present = _heads_of(model, layer)
        if site != "output" or not present:
            return
        current.append(layer)
        parts = context.reshape(*context.shape[:-1], len(present), -1).transpose(0, -2)
        # (heads whose channels, tokens, rows, channels) -> rows of the heads of this layer, beside the open one.
        shut = parts[:, :, [1 + head for head in present]]
        open_ = parts[:, :, :1]
        own = torch.eye(len(present), dtype=torch.bool, device=context.device)
        apart = (shut - open_).abs().amax(dim=(1, 3))
        rest = shut.abs().amax(dim=(1, 3))
        # Not `apart > ...`: NaN must count as wrong too. A closed head is exactly 0, whatever the rounding.
        right = torch.where(own, rest == 0, apart <= _CLOSE * open_.abs().max().clamp_min(1e-30))
        wrong[layer] = ~right.all(dim=0) | wrong.get(layer, False)

    def leave(hidden: Tensor) -> Tensor:
        """Compare the rows of a layer's output; a layer that is used in many passes must change in each."""
        for layer in current:
            differences = (hidden - hidden[:1]).abs().amax(dim=(1, 2))
            # By more than two open rows differ: rounding may depend on the place of a row in a matrix.
            rows = [1 + head for head in _heads_of(model, layer)]
            moved[layer] = (differences[rows] > differences[-1]) & moved.get(layer, True)
        current.clear()
        return hidden[:1].expand_as(hidden).contiguous()

    calls = list[Arguments]()
    gates = rows[:, None].expand(-1, model.layers, -1)
    model.logits(many, gates=gates, tap=take, leaving=leave, record=calls)
    if not all(_same_rows(call, len(many)) for call in calls):
        raise SelfTestError(
            f"{model.card.id} passes more than hidden states from layer to layer, so that its gates cannot be tested; "
            "name another model"
        )
    idle = 0
    for layer in range(model.layers):
        present = _heads_of(model, layer)
        if not present:
            continue
        nothing = torch.zeros(len(present), dtype=torch.bool, device=model.device)
        # A head whose output weights are all zero was pruned before: it cannot change its layer.
        weight = model.projection(layer).weight
        alive = weight.reshape(len(weight), len(present), -1).abs().amax(dim=(0, 2)) > 0
        idle += len(present) - int(alive.sum())
        # A projection that was not called closes nothing, and a layer that was not called does not change.
        for failed, problem in (
            (wrong.get(layer, ~nothing), "close its head and no others"),
            (alive & ~moved.get(layer, nothing), "change the output of its layer"),
        ):
            if bool(failed.any()):
                raise SelfTestError(
                    f"the gate of layer {layer}, head {present[int(torch.nonzero(failed)[0])]} of {model.card.id} does "
                    f"not {problem}, so no mask would work; name another model"
                )
    return idle


def _heads_of(model: HeadModel, layer: int) -> tuple[int, ...]:
    """The heads of a layer, numbered as in the full model."""
    if model.card.kept is None:
        return tuple(range(model.heads))
    return model.card.kept[layer]


def _same_rows(value: object, rows: int) -> bool:
    """Whether all of a layer's arguments are the same in every row of a batch."""
    if isinstance(value, Tensor):
        if value.ndim == 0 or len(value) != rows or not value.is_floating_point():
            return True
        return bool((value - value[:1]).nan_to_num().abs().max() <= _CLOSE * value.nan_to_num().abs().max())
    if isinstance(value, Mapping):
        return all(_same_rows(part, rows) for part in value.values())
    if isinstance(value, tuple | list):
        return all(_same_rows(part, rows) for part in value)
    return True


#: By no more than this share of the largest logit may logits differ because of rounding.
_MOST_ROUNDING = 1e-4


def compare_masked_and_cut(model: HeadModel, mask: HeadMask, batches: Sequence[Batch]) -> float:
    """Largest difference between the logits of the masked and of the cut model, relative to the largest logit above 1.

    Raises:
        SelfTestError: If it is more than the device's tolerance.
    """
    pruned = cut(model, mask)
    gates = model.gates(mask.keep)
    worst = 0.0
    for batch in batches:
        masked = model.logits(batch, gates=gates, vocabulary=True)
        found = pruned.logits(batch, vocabulary=True)
        worst = max(worst, _compare_logits(model, masked, found, partial(measure_rounding, pruned, [batch])))
    return worst


def _compare_logits(model: HeadModel, masked: Tensor, pruned: Tensor, rounding: Callable[[], float]) -> float:
    """The difference of masked and cut logits, relative to the largest one where that is above 1.

    Some processors round large sums more than is usual: where the difference is above the tolerance, ``rounding`` is
    measured, and a few times that is allowed.
    """
    allowed = tolerance(model.device)
    relative = relative_difference(masked, pruned)
    # Not `relative > allowed`: a difference that is not a number must fail too.
    if not relative <= allowed and relative <= _MOST_ROUNDING:
        allowed = min(_MOST_ROUNDING, max(allowed, ALLOWED_ROUNDING * rounding()))
    if not relative <= allowed:
        largest = float(masked.abs().max())
        apart = float((masked - pruned).abs().max())
        raise SelfTestError(
            f"cutting heads out of {model.card.id} changes its results: the logits (up to {largest:.3g}) of the masked "
            f"and the cut model differ by {apart:.1e}, more than rounding ({allowed * max(1.0, largest):.0e}); name "
            "another model"
        )
    return relative
