"""A small document of ``cahp experiment peers`` with round numbers."""

from dataclasses import replace

from _peer_rows import PeerRow, PeersDocument

from cahp.models.cards import Throughput
from cahp.values import Estimate


def row(peer: str, cut: float, words: str, left: float, kl: float, weights: int = 100) -> PeerRow:
    estimate = Estimate(kl, (0.9 * kl, 1.1 * kl), 10, "nats")
    return PeerRow(peer, cut, words, left, weights, estimate, estimate, estimate)


DOCUMENT = PeersDocument(
    *("smollm2", "abc", "group", "bbc-news", None, (42, 43, 44), 8192, 2048, 23040, 100),
    *(Estimate(0.5, (0.4, 0.6), 12, "nats"), Estimate(3.0, (2.0, 4.0), 12, "nats")),
    (
        row("groups", 0.2, "18 of 90 groups", 0.8, 0.1, 96),
        replace(
            row("groups", 0.5, "45 of 90 groups", 0.5, 0.405, 90),
            speed=Throughput(2048, 10.0, 15.0, Estimate(0.667, (0.6, 0.7), 20, "ratio")),
        ),
        row("8-bit", 0.0, "8 bits", 0.53125, 0.00031),
        row("4-bit", 0.0, "4 bits", 0.28125, 0.036),
    ),
    {},
)
