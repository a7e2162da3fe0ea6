"""What a matched model allows, found by trying it: its maps, its layers one by one, the sums inside them.

A shape says where heads are. Whether attention weights can be seen where they are made, whether layers can be run one
by one, and what a layer adds to what differs between architectures of one shape, and is seen on the loaded network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from cahp.models.attention import IMPLEMENTATION, Arguments
from cahp.models.families import Family, Site
from cahp.models.head_model import Batch, HeadModel, LayerState
from cahp.values import CahpError, ModelError, SelfTestError

SENTENCES = (
    "The quick brown fox jumps over the lazy dog.",
    "A head that attends elsewhere must change what the layer says, and this sentence is a little longer.",
)
#: Largest difference between the logits of a model with our attention function and with the library's own.
_SAME = 1e-4
#: Largest difference between two ways to compute the same hidden states, relative to their size.
_CLOSE = 1e-4


def probe_family(model: HeadModel) -> HeadModel:
    """``model`` with what its family allows found out, where it was matched by its shape; any other as it is.

    Raises:
        SelfTestError: If our attention function changes its answers.
        ModelError: If it gives no attention maps over its tokens, or cannot answer a text alone.
    """
    if model.family.matched is None:
        return model
    try:
        return _tried(model)
    except CahpError:
        raise
    except Exception as error:  # a network that was never tried with text alone fails in any way
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(" .:")
        raise ModelError(
            f"{model.card.id} cannot answer a plain sentence ({reason}): its configuration does not fit together, or "
            "it needs more than text; save it again, or name another model"
        ) from None


def _tried(model: HeadModel) -> HeadModel:
    (batch,) = model.batches(model.tokenize(model.examples(SENTENCES), max_length=min(32, model.max_length)))
    with torch.inference_mode():
        # Each way through the layers is gone once: large models take their time for the shortest texts.
        left: list[Tensor] = []
        _check_answers(model, batch, model.logits(batch, leaving=left.append, vocabulary=True))
        model = model.around(model.network, family=_with_maps(model, batch))
        walk = _walk(model, batch, left)
        tails = walk is not None and _called_alike(walk[0][0].arguments)
        model = model.around(model.network, family=replace(model.family, walks=walk is not None, tails=tails))
        return model.around(model.network, family=_alone(model.family) if walk is None else _with_sums(model, walk))


def _check_answers(model: HeadModel, batch: Batch, ours: Tensor) -> None:
    if not model.family.interface:
        return
    network = model.network
    if not bool(ours.isfinite().all()):
        raise SelfTestError(f"{model.card.id} answers a plain sentence with no numbers; save it from a sound model")
    if model.card.kept is not None:
        return
    network.set_attn_implementation("eager")
    try:
        theirs = model.logits(batch, vocabulary=True)
    finally:
        network.set_attn_implementation(IMPLEMENTATION)
    difference = float((ours - theirs).abs().max()) / max(1.0, float(theirs.abs().max()))
    if not difference <= _SAME:
        raise SelfTestError(
            f"{model.card.id} computes its attention in a way that is not known here: its answers differ by "
            f"{difference:.1e} from the library's own; name another model"
        )


def _with_maps(model: HeadModel, batch: Batch) -> Family:
    """The family, with the way to its attention weights that works."""
    ways = [model.family]
    if model.family.weights is not None:
        ways.append(replace(model.family, weights=None))
    length = batch.tensors["input_ids"].shape[1]
    heads = {model.heads, *((len(kept) for kept in model.card.kept) if model.card.kept is not None else ())}
    for family in ways:
        seen: list[tuple[int, Tensor]] = []
        trial = model.around(model.network, family=family)
        trial.logits(batch, probe=lambda layer, maps, seen=seen: seen.append((layer, maps)))  # type: ignore[misc]
        # Once each: a layer that weighs something else by its way too would be seen twice.
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
        f"{model.card.id} gives no attention weights between the tokens of a text, by which its heads could be told "
        "apart; name another model"
    )


#: The state before a layer, and what entered its projections.
Step = tuple[LayerState, dict[Site, Tensor]]


def _walk(model: HeadModel, batch: Batch, left: list[Tensor]) -> list[Step] | None:
    """Its layers run one by one, and at last the state after them.

    None if they do not pass on what they pass on in a whole run, which is what ``left`` them there.
    """
    try:
        state, walk = model.enter(batch), []
        for layer in range(model.layers):
            before, (state, seen) = state, _watched(model, state)
            walk.append((before, seen))
            # Layers without heads may follow, whose output is looked at where the next one with heads ends.
            if len(model.stack) == model.layers and not _close(state.hidden, left[layer]):
                return None
    except Exception:  # layers that are called in a way of their own fail in any way
        return None
    if len(left) != model.layers or (len(model.stack) <= model.layers and not _close(state.hidden, left[-1])):
        return None
    return [*walk, (state, {})]


def _called_alike(calls: Sequence[Arguments]) -> bool:
    """Whether all layers are called with the very same things besides hidden states.

    Else one gets what those before it made, or what its place says. Equal numbers would not do: masks of different
    reach are the same on a short text.
    """
    return all(_same(call, calls[0]) for call in calls)


def _same(left: object, right: object) -> bool:
    if isinstance(left, tuple | list) and isinstance(right, tuple | list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(value, right[name]) for name, value in left.items())
    return left is right or (isinstance(left, float | int | str) and left == right)


def _with_sums(model: HeadModel, walk: list[Step]) -> Family:
    """The family, with what its layers add to what, or without a feed-forward block where that is not known."""
    family = model.family
    if family.feed_out is None or len(model.stack) > model.layers:
        return _alone(family)
    fits = {"pre": True, "post": family.feed_in is not None}
    for layer, ((state, seen), (after, _)) in enumerate(pairwise(walk)):
        if seen.keys() < {"output", "feed_out"}:
            return _alone(family)
        said = model.projection(layer)(seen["output"])
        fed = model.projection(layer, "feed_out")(seen["feed_out"])
        real = state.real
        fits["pre"] &= _close((state.hidden + said + fed)[real], after.hidden[real])
        fits["post"] &= (
            "feed_in" in seen
            and seen["feed_in"].shape == fed.shape
            and _normalised((state.hidden + said)[real], seen["feed_in"][real])
            and _normalised((seen["feed_in"] + fed)[real], after.hidden[real])
        )
    for residual in ("pre", "post"):
        if fits[residual]:
            return replace(family, residual=residual, feed_in=family.feed_in if residual == "post" else None)
    return _alone(family)


def _watched(model: HeadModel, state: LayerState) -> tuple[LayerState, dict[Site, Tensor]]:
    seen: dict[Site, Tensor] = {}
    return model.step(state, tap=lambda site, _, entering: seen.update({site: entering})), seen


def _alone(family: Family) -> Family:
    return replace(family, feed_out=None, feed_in=None)


def _close(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and bool((left - right).abs().max() <= _CLOSE * max(1.0, float(right.abs().max())))


def _normalised(entering: Tensor, leaving: Tensor) -> bool:
    """Whether ``leaving`` (tokens, channels) is ``entering`` after a layer's normalisation, whatever its weights."""
    scaled = _standardised(entering)
    centred, wanted = scaled - scaled.mean(0), leaving - leaving.mean(0)
    slopes = (centred * wanted).sum(0) / (centred * centred).sum(0).clamp_min(1e-12)
    return _close(centred * slopes, wanted)


def _standardised(vectors: Tensor) -> Tensor:
    """Vectors of mean 0 and variance 1."""
    return torch.nn.functional.layer_norm(vectors, vectors.shape[-1:])
