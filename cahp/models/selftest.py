"""Prove on every load that the heads of a model can be read, gated and cut.

A trial run first completes the family of a model that was matched by its structure: architectures of one shape differ
in how attention weights can be read, whether layers can be run one by one, and which sums a layer computes. Then every
gate must change the results, and cutting heads must equal masking them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from cahp.models.attention import IMPLEMENTATION, pools_alike
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
#: function and with the library's own, and hidden states.
_CLOSE = 1e-4
#: Number of random masks under which a masked and a cut model are compared.
_MASKS = 2


def _make_batch(model: HeadModel) -> Batch:
    tokens = model.tokenize(model.examples(_SENTENCES), max_length=min(32, model.max_length))
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
        return model.with_network(model.network, family=_probe(model))
    except CahpError:
        raise
    except Exception as error:  # an unknown network raises anything
        raise ModelError(
            f"{model.card.id} cannot classify a plain sentence ({first_line(error)}): its configuration is not "
            "consistent, or it needs more than text; save it again, or name another model"
        ) from None


@torch.inference_mode()
def _probe(model: HeadModel) -> Family:
    # As few passes as possible: large models are slow even with short texts.
    batch = _make_batch(model)
    left: list[Tensor] = []
    ours = model.logits(batch, leaving=left.append, vocabulary=True)
    if model.family.interface and model.card.kept is None:
        # A model that was not pruned is compared with the library's own attention function.
        model.network.set_attn_implementation("eager")
        try:
            theirs = model.logits(batch, vocabulary=True)
        finally:
            model.network.set_attn_implementation(IMPLEMENTATION)
        difference = relative_difference(theirs, ours)
        # Not `difference > _CLOSE`: a difference that is not a number must fail too.
        if not difference <= _CLOSE:
            raise SelfTestError(
                f"{model.card.id} computes its attention in a way that is not supported: its logits differ by "
                f"{difference:.1e} from those of transformers; name another model"
            )
    family = _find_maps(model, batch)
    steps = _run_layers(model.with_network(model.network, family=family), batch, left[-1])
    if steps is None:
        return replace(family, walks=False, tails=False, feed_out=None, feed_in=None)
    # Otherwise an argument depends on earlier layers or on the layer's index. Equal numbers are not enough: masks of
    # different windows are equal on a short text.
    calls = steps[0][0].arguments
    same = all(_same(call, calls[0]) for call in calls)
    # Some networks get the arguments by a layer's own kind and not by its index.
    tails = same or "attention_type" in names_in_forward(model.network.base_model)
    return replace(_find_sums(model, steps, family), own_arguments=not same, tails=tails)


def _find_maps(model: HeadModel, batch: Batch) -> Family:
    """The family of a model, with a way to read its attention weights: by a hook, or as the network returns them."""
    length = batch.tensors["input_ids"].shape[1]
    kept = _kept_heads(model)
    having = [layer for layer, heads in enumerate(kept) if heads]
    for hook in dict.fromkeys((model.family.weights, None)):
        family = replace(model.family, weights=hook)
        seen: list[tuple[int, Tensor]] = []
        trial = model.with_network(model.network, family=family)
        trial.logits(batch, probe=lambda layer, maps, seen=seen: seen.append((layer, maps)))  # type: ignore[misc]
        # Once each: a layer that also weights other things in the same way would appear twice.
        complete = sorted(layer for layer, _ in seen) == having
        for layer, maps in seen:
            complete &= maps.shape[1:] == (len(kept[layer]), length, length)
            complete &= float(maps.min()) >= 0 and float(maps.sum(-1).max()) < 1 + _CLOSE
        if complete:
            fused = family.interface and getattr(model.network, "_supports_sdpa", True)
            pools = fused and pools_alike(lambda probe: trial.logits(batch, probe=probe), dict(seen), batch.here)  # noqa: B023
            return replace(family, pools=pools)
    raise ModelError(
        f"{model.card.id} has no attention weights between the tokens of a text, which are needed to compare its "
        "heads; name another model"
    )


#: The states before the first layer and after each, and the inputs of each layer's projections.
Steps = tuple[list[LayerState], list[dict[Site, Tensor]]]


def _run_layers(model: HeadModel, batch: Batch, last: Tensor) -> Steps | None:
    """Run the layers one by one; None if their output is not that of a whole pass (``last``)."""
    seen = [dict[Site, Tensor]() for _ in range(model.layers)]
    shape = batch.tensors["input_ids"].shape

    def watch(site: Site, layer: int, entering: Tensor) -> None:
        # OPT joins the tokens of all texts in its feed-forward block.
        seen[layer][site] = entering.reshape(*shape, -1)

    try:
        states = [model.enter(batch)]
        for _ in range(model.layers):
            states.append(model.step(states[-1], tap=watch))
    except Exception:  # layers that cannot be called one by one raise anything
        return None
    if not _close(states[-1].hidden, last):
        return None
    return states, seen


def _same(left: object, right: object) -> bool:
    """Whether two layers have the same arguments: the same objects, or equal numbers and texts."""
    ours, form = tree_flatten(left)
    theirs, other = tree_flatten(right)
    pairs = zip(ours, theirs, strict=False)
    return form == other and all(a is b or (isinstance(a, float | int | str) and a == b) for a, b in pairs)


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
        real = state.real
        attended = (state.hidden + model.projection(layer).module(seen["output"]))[real]
        fed = model.projection(layer, "feed_out").module(seen["feed_out"])[real]
        pre &= _close(attended + fed, after.hidden[real])
        between = seen.get("feed_in")
        if between is None or between.shape != after.hidden.shape:
            post = False
        elif post:
            post = _normalised(attended, between[real]) and _normalised(between[real] + fed, after.hidden[real])
    if pre:
        return replace(family, residual="pre", feed_in=None)
    if post:
        return replace(family, residual="post")
    return without_feed


def _close(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and relative_difference(right, left) <= _CLOSE


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

    Raises:
        ModelError: If its heads were cut in this process.
        SelfTestError: If a gate does not change the logits; or if the logits of a masked and of a cut model differ by
            more than the device's tolerance, relative to the largest logit where that is above 1.
    """
    if model.card.kept is None and set(model.head_counts) != {model.heads}:
        raise ModelError(f"heads of {model.card.id} were cut out of it before; use the model that it was cut from")
    batch = _make_batch(model)
    _check_gates(model, batch)
    if model.card.kept is not None:
        # A model that was cut before cannot be cut again.
        return Verified(None)
    generator = np.random.default_rng(0)
    differences = []
    for _ in range(_MASKS):
        keep = generator.random((model.layers, model.heads)) < 0.5
        # Uneven on purpose, but no layer empty.
        keep[np.arange(model.layers), generator.integers(model.heads, size=model.layers)] = True
        differences.append(compare_masked_and_cut(model, HeadMask(keep), [batch]))
    return Verified(max(differences))


def _check_gates(model: HeadModel, batch: Batch) -> None:
    """Check that the logits depend on every gate: their gradient by it is not 0."""
    gates = torch.ones(model.layers, model.heads, device=model.device, requires_grad=True)
    logits = model.logits(batch, gates=gates, vocabulary=True)
    # The second sum, for gates that nothing depends on.
    (slopes,) = torch.autograd.grad(logits.square().sum() + 0 * gates.sum(), gates)
    for layer, heads in enumerate(_kept_heads(model)):
        if not heads:
            continue
        # A head whose output weights are all zero was pruned before: it cannot change anything.
        weight = model.projection(layer).weight
        alive = weight.reshape(len(weight), len(heads), -1).abs().amax(dim=(0, 2)) > 0
        for head, matters, slope in zip(heads, alive.tolist(), slopes[layer, list(heads)].tolist(), strict=True):
            # Not `slope == 0`: a gradient that is not a number must fail too.
            if matters and not abs(slope) > 0:
                raise SelfTestError(
                    f"the gate of layer {layer}, head {head} of {model.card.id} does not change its logits, so no mask "
                    "would work; name another model"
                )


def _kept_heads(model: HeadModel) -> Sequence[Sequence[int]]:
    """The heads of each layer, numbered as in the full model."""
    return model.card.kept or [range(model.heads)] * model.layers


#: By no more than this share of the largest logit may logits differ because of rounding.
_MOST_ROUNDING = 1e-4


def compare_masked_and_cut(model: HeadModel, mask: HeadMask, batches: Sequence[Batch]) -> float:
    """Largest difference between the logits of the masked and of the cut model, relative to the largest logit above 1.

    Some processors round large sums more than is usual: where the difference is above the tolerance, a few times the
    rounding is allowed.

    Raises:
        SelfTestError: If it is more than the device's tolerance.
    """
    pruned = cut(model, mask)
    gates = model.gates(mask.keep)
    worst = 0.0
    for batch in batches:
        masked = model.logits(batch, gates=gates, vocabulary=True)
        relative = relative_difference(masked, pruned.logits(batch, vocabulary=True))
        allowed = tolerance(model.device)
        if allowed < relative <= _MOST_ROUNDING:
            allowed = min(_MOST_ROUNDING, ALLOWED_ROUNDING * measure_rounding(pruned, [batch]))
        # Not `relative > allowed`: a difference that is not a number must fail too.
        if not relative <= allowed:
            raise SelfTestError(
                f"cutting heads out of {model.card.id} changes its results: the logits of the masked and the cut model "
                f"differ by {relative:.1e}, relative to the largest, and rounding explains {allowed:.0e}; name another "
                "model"
            )
        worst = max(worst, relative)
    return worst
