"""The head of a language model, which makes logits of the whole vocabulary.

Logits for every token would take more memory than the model. A hook therefore lets the head see only the token at which
a text is answered; or it reports the hidden states before the head, from which logits are made in chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cahp.models.attention import ForwardCall, Tensors, calling
from cahp.models.compact import Positional
from cahp.values import setting

#: Numbers in the logits of a chunk, at most.
_CHUNK = 1 << 25


@dataclass
class _HeadCall:
    """What the head of the current call sees: the hidden states at the positions ``at (b,)``, or ``instead`` of all.

    ``hidden (b, tokens, hidden)`` are those that reached the head.
    """

    at: Tensor | None = None
    instead: Tensor | None = None
    hidden: Tensor | None = None


_current: ContextVar[_HeadCall | None] = ContextVar("cahp_head", default=None)


def attach_head(network: nn.Module) -> None:
    """Install the hook on the language-model head; calls of this module's functions then use it."""
    head: nn.Module | None = network.get_output_embeddings()  # type: ignore[operator]
    if head is not None:
        head.register_forward_pre_hook(_before_head)


def _before_head(module: nn.Module, args: Positional) -> Positional | None:
    call = _current.get()
    if call is None or not args or args[0].ndim != 3:
        return None
    hidden: Tensor = args[0]
    if call.instead is not None:
        return (call.instead[None], *args[1:])
    call.hidden = hidden
    at = call.at
    if at is None:
        at = torch.zeros(len(hidden), dtype=torch.long, device=hidden.device)
    return (hidden[torch.arange(len(hidden), device=hidden.device), at][:, None], *args[1:])


def logits_at(network: Any, tensors: Tensors, at: Tensor, **options: Any) -> Tensor:
    """Logits ``(b, V)`` of the whole vocabulary at one position ``at (b,)`` of each text."""
    with setting(_current, _HeadCall(at)):
        logits: Tensor = network(**tensors, **options).logits
    if logits.shape[1] == 1:
        return logits[:, 0]
    # A head without the hook has logits for every token.
    return logits[torch.arange(len(at), device=at.device), at]


def hidden_states(network: Any, tensors: Tensors) -> Tensor:
    """The hidden states ``(b, tokens, hidden)`` that reach the head."""
    call = _HeadCall()
    with setting(_current, call):
        network(**tensors, use_cache=False)
    assert call.hidden is not None
    return call.hidden


def vocabulary_logits(network: Any, hidden: Tensor) -> Tensor:
    """Logits ``(n, V)`` of hidden states ``(n, hidden)`` that reach the head, with whatever the network does to them.

    The network runs with a single token, whose hidden state is replaced before the head.
    """
    one = torch.zeros(1, 1, dtype=torch.long, device=hidden.device)
    with calling(ForwardCall()), setting(_current, _HeadCall(instead=hidden)):
        logits: Tensor = network(input_ids=one, attention_mask=torch.ones_like(one), use_cache=False).logits
    return logits[0].float()


def _chunks(network: Any, hidden: Tensor) -> Iterator[slice]:
    """Yield the rows of hidden states ``(n, hidden)`` whose logits are made at once."""
    size = max(1, _CHUNK // int(network.get_input_embeddings().num_embeddings))
    for start in range(0, len(hidden), size):
        yield slice(start, start + size)


@dataclass(frozen=True)
class Reference:
    """The distributions of the full model at tokens, against which others are compared.

    ``states (n, hidden)`` are its hidden states before the head, and ``network`` makes logits of them. A head of the
    same weights whose logits are linear needs no logits of the full model: with its ``slopes (n, hidden)``, the
    gradient of the logarithm of the sum of exponentials, and ``shifts (n,)``, the KL divergence from it is exactly
    ``logsumexp(logits) - slopes . hidden - shifts``, since that is the Bregman divergence of this function.
    """

    network: Any
    states: Tensor
    slopes: Tensor | None = None
    shifts: Tensor | None = None

    def take(self, rows: slice) -> Reference:
        """The reference of some tokens."""
        if self.slopes is None or self.shifts is None:
            return Reference(self.network, self.states[rows])
        return Reference(self.network, self.states[rows], self.slopes[rows], self.shifts[rows])

    def divergences(self, hidden: Tensor, logits: Tensor, sums: Tensor) -> Tensor:
        """KL divergences ``(n,)`` from it of ``logits (n, V)``, whose logsumexp is ``sums``, made of ``hidden``."""
        if self.slopes is not None and self.shifts is not None:
            # In float64, since large numbers of equal size are subtracted.
            away = torch.linalg.vecdot(self.slopes.double(), hidden.double()) + self.shifts.double()
            apart: Tensor = (sums.double() - away).clamp_min(0).float()
            return apart
        theirs = vocabulary_logits(self.network, self.states).log_softmax(-1)
        # Both are normalised before they are compared: rounded probabilities do not sum to 1, so a constant in the
        # logits would not cancel. In bfloat16 the sum would be rounded, too.
        with torch.autocast(logits.device.type, enabled=False):
            differences = theirs - logits.log_softmax(-1)
            divergences: Tensor = torch.linalg.vecdot(theirs.exp(), differences)
        return divergences


def linearise(network: Any, states: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes and shifts of a ``Reference`` at ``states (n, hidden)``.

    The logits must be linear in the states; see ``has_linear_logits``.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        given = states.clone().requires_grad_()
        sums = vocabulary_logits(network, given).logsumexp(-1)
        (slopes,) = torch.autograd.grad(sums.sum(), given)
    return slopes, sums.detach().double() - torch.linalg.vecdot(slopes.double(), given.detach().double())


def pull_back(network: Any, states: Tensor, weigh: Callable[[Tensor], Tensor]) -> Tensor:
    """Gradients ``(n, hidden)`` of ``weigh(logits) . logits``, with constant weights, by ``states (n, hidden)``."""
    parts = list[Tensor]()
    for rows in _chunks(network, states):
        given = states[rows].clone().requires_grad_()
        logits = vocabulary_logits(network, given)
        parts += torch.autograd.grad(logits, given, weigh(logits.detach()))
    return torch.cat(parts)


def has_linear_logits(network: Any, states: Tensor) -> bool:
    """Whether logits are linear in the hidden states before the head, but for a constant; some networks bound them."""
    first = states[:1]
    second = states[-1:]
    zero, one, other, both = vocabulary_logits(
        network, torch.cat([torch.zeros_like(first), first, second, first + second])
    )
    return bool(((both + zero - one - other).abs().max() <= 1e-4 * both.abs().max().clamp_min(1.0)).item())


def same_head(left: Any, right: Any) -> bool:
    """Whether two networks make the same logits of the same hidden states."""
    if left is right:
        return True
    weights = (network.get_output_embeddings().state_dict().values() for network in (left, right))
    return all(a.data_ptr() == b.data_ptr() or torch.equal(a, b) for a, b in zip(*weights, strict=True))


def read_tokens(network: Any, hidden: Tensor, targets: Tensor, *, reference: Reference | None = None) -> Tensor:
    """What follows from the hidden states of tokens ``(n, hidden)``: float32 ``(n, 3)``, see ``cahp.tasks.answers``.

    ``targets (n,)`` are the next tokens; without a ``reference`` KL divergences are 0.
    """
    parts = list[Tensor]()
    for rows in _chunks(network, hidden):
        logits = vocabulary_logits(network, hidden[rows])
        sums = logits.logsumexp(-1)
        divergences = torch.zeros_like(sums)
        if reference is not None:
            divergences = reference.take(rows).divergences(hidden[rows], logits, sums)
        losses = sums - logits.gather(1, targets[rows, None])[:, 0]
        parts.append(torch.stack([divergences, losses, logits.argmax(-1).float()], dim=1))
    return torch.cat(parts)


def token_losses(
    network: Any,
    hidden: Tensor,
    targets: Tensor | None = None,
    *,
    full: Any = None,
    wanted: Tensor | None = None,
) -> Tensor:
    """Losses ``(n,)`` of hidden states ``(n, hidden)``, which can be differentiated: the memory of a chunk is enough.

    With ``targets (n,)`` losses of the next tokens; with ``wanted`` the KL divergences from ``full`` at that state.
    """

    def chunk(hidden: Tensor, rows: slice) -> Tensor:
        logits = vocabulary_logits(network, hidden)
        if targets is not None:
            return nn.functional.cross_entropy(logits, targets[rows], reduction="none")
        assert wanted is not None
        with torch.no_grad():
            theirs = vocabulary_logits(full, wanted[rows]).log_softmax(-1)
        return nn.functional.kl_div(logits.log_softmax(-1), theirs, reduction="none", log_target=True).sum(-1)

    losses = list[Tensor]()
    for rows in _chunks(network, hidden):
        losses.append(checkpoint(chunk, hidden[rows], rows, use_reentrant=False))
    return torch.cat(losses)
