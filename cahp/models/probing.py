"""Probe a model that was matched by its structure: its attention maps, its layers one by one, the sums inside them.

A shape says where the heads are. Architectures of one shape differ in how attention weights can be read, whether
layers can be run one by one, and which sums a layer computes; a trial run of the loaded network shows it.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from cahp.models.attention import IMPLEMENTATION
from cahp.models.families import Family, Site
from cahp.models.head_model import Batch, HeadModel, LayerState
from cahp.models.matching import names_in_forward
from cahp.models.sketch import first_line
from cahp.values import CahpError, ModelError, SelfTestError
from cahp.words import first_line

SENTENCES = (
    "The quick brown fox jumps over the lazy dog.",
    "A head that attends elsewhere must change what the layer says, and this sentence is a little longer.",
)
#: Largest difference between the logits of a model with our attention function and with the library's own.
_SAME = 1e-4
#: Largest difference between two ways to compute the same hidden states, relative to their size.
_CLOSE = 1e-4


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
    (batch,) = model.batches(model.tokenize(model.examples(SENTENCES), max_length=min(32, model.max_length)))
    with torch.inference_mode():
        # As few passes as possible: large models are slow even with short texts.
        left: list[Tensor] = []
        ours = model.logits(batch, leaving=left.append, vocabulary=True)
        if model.family.interface:
            _check_logits(model, batch, ours)
        family = _find_maps(model, batch)
        model = model.around(model.network, family=family)
        steps = _run_layers(model, batch, left)
        if steps is None:
            family = replace(family, walks=False, tails=False, feed_out=None, feed_in=None)
            return model.around(model.network, family=family)
        # Otherwise an argument depends on earlier layers or on the layer's index. Equal numbers are not enough: masks
        # of different windows are equal on a short text.
        calls = steps[0][0].arguments
        same = all(_same(call, calls[0]) for call in calls)
        # Some networks get the arguments by a layer's own kind and not by its index.
        tails = same or "attention_type" in names_in_forward(model.network.base_model)
        family = replace(_find_sums(model, steps, family), own_arguments=not same, tails=tails)
        return model.around(model.network, family=family)


def _check_logits(model: HeadModel, batch: Batch, ours: Tensor) -> None:
    """Compare the logits of a model that was not pruned with those by the library's own attention function."""
    if not bool(ours.isfinite().all()):
        raise SelfTestError(f"the logits of {model.card.id} are not finite numbers; save it from a sound model")
    if model.card.kept is not None:
        return
    model.network.set_attn_implementation("eager")
    try:
        theirs = model.logits(batch, vocabulary=True)
    finally:
        model.network.set_attn_implementation(IMPLEMENTATION)
    difference = float((ours - theirs).abs().max()) / max(1.0, float(theirs.abs().max()))
    if not difference <= _SAME:
        raise SelfTestError(
            f"{model.card.id} computes its attention in a way that is not supported: its logits differ by "
            f"{difference:.1e} from those of transformers; name another model"
        )


def _find_maps(model: HeadModel, batch: Batch) -> Family:
    """The family of a model, with a way to read its attention weights."""
    ways = [model.family]
    if model.family.weights is not None:
        ways.append(replace(model.family, weights=None))
    length = batch.tensors["input_ids"].shape[1]
    heads = {model.heads, *((len(kept) for kept in model.card.kept) if model.card.kept is not None else ())}
    for family in ways:
        seen: list[tuple[int, Tensor]] = []
        trial = model.around(model.network, family=family)
        trial.logits(batch, probe=lambda layer, maps, seen=seen: seen.append((layer, maps)))  # type: ignore[misc]
        # Once each: a layer that also weights other things in the same way would appear twice.
        if sorted(layer for layer, _ in seen) == list(range(model.layers)) and all(
            maps.ndim == 4
            and maps.shape[1] in heads
            and maps.shape[2:] == (length, length)
            and float(maps.min()) >= 0
            and float(maps.sum(-1).max()) < 1 + _CLOSE
            for _, maps in seen
        ):
            return family
    raise ModelError(
        f"{model.card.id} has no attention weights between the tokens of a text, which are needed to compare its "
        "heads; name another model"
    )


#: The state before a layer, and the inputs of its projections.
Step = tuple[LayerState, dict[Site, Tensor]]


def _run_layers(model: HeadModel, batch: Batch, left: list[Tensor]) -> list[Step] | None:
    """Run the layers one by one; return their steps, and at last the state after them.

    None if their outputs are not those of a whole pass (``left``).
    """
    try:
        state, steps = model.enter(batch), []
        for layer in range(model.layers):
            before, seen = state, dict[Site, Tensor]()

            def watch(site: Site, _: int, entering: Tensor, seen: dict[Site, Tensor] = seen) -> None:
                # OPT joins the tokens of all texts in its feed-forward block.
                joined = entering.ndim == 2 and len(entering) == batch.tensors["input_ids"].numel()
                seen[site] = entering.reshape(*batch.tensors["input_ids"].shape, -1) if joined else entering

            state = model.step(state, tap=watch)
            steps.append((before, seen))
            # Outputs of layers without heads are compared after the next layer with heads.
            if len(model.stack) == model.layers and not _close(state.hidden, left[layer]):
                return None
    except Exception:  # layers that cannot be called one by one raise anything
        return None
    if len(left) != model.layers or (len(model.stack) <= model.layers and not _close(state.hidden, left[-1])):
        return None
    return [*steps, (state, {})]


def _same(left: object, right: object) -> bool:
    if isinstance(left, tuple | list) and isinstance(right, tuple | list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(value, right[name]) for name, value in left.items())
    return left is right or (isinstance(left, float | int | str) and left == right)


def _find_sums(model: HeadModel, steps: list[Step], family: Family) -> Family:
    """The family with the place of its normalisation, or without a feed-forward block where that is not known."""
    without_feed = replace(family, feed_out=None, feed_in=None)
    if family.feed_out is None or len(model.stack) > model.layers:
        return without_feed
    pre, post = True, family.feed_in is not None
    for layer, ((state, seen), (after, _)) in enumerate(pairwise(steps)):
        if seen.keys() < {"output", "feed_out"}:
            return without_feed
        attended = model.projection(layer)(seen["output"])
        fed = model.projection(layer, "feed_out")(seen["feed_out"])
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
    return replace(family, residual="post") if post else without_feed


def _close(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and bool((left - right).abs().max() <= _CLOSE * max(1.0, float(right.abs().max())))


def _normalised(entering: Tensor, leaving: Tensor) -> bool:
    """Whether ``leaving`` (tokens, channels) is ``entering`` after a layer's normalisation, whatever its weights."""
    scaled = torch.nn.functional.layer_norm(entering, entering.shape[-1:])
    centred, wanted = scaled - scaled.mean(0), leaving - leaving.mean(0)
    slopes = (centred * wanted).sum(0) / (centred * centred).sum(0).clamp_min(1e-12)
    return _close(centred * slopes, wanted)
