"""Who wins is said first, with numbers of the document."""

from __future__ import annotations

from dataclasses import replace

from cahp.features.peers.result import PeerRow, PeersDocument, describe_gains, describe_winner, show, table_rows
from cahp.models.costs import Throughput
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


def test_a_rounded_cache_wins_where_it_is_nearer_at_no_more_bytes() -> None:
    assert describe_winner(DOCUMENT) == (
        "a cache in 8 bits wins: it saves 47 % of the cache for a KL divergence of 0.0003 nats, where 18 of 90 groups "
        "removed save 20 % for 0.10 nats; a cache in 4 bits wins: it saves 72 % of the cache for a KL divergence of "
        "0.036 nats, where 45 of 90 groups removed save 50 % for 0.41 nats"
    )
    assert describe_gains(DOCUMENT) == (
        "Removing 45 of 90 groups also saves 10.0 % of the weights and writes 1.50 × as fast at 2,048 tokens of "
        "context; a rounded cache saves neither by itself"
    )


def test_removed_groups_win_where_they_are_nearest() -> None:
    worse = replace(DOCUMENT, rows=(*DOCUMENT.rows[:2], row("4-bit", 0.0, "4 bits", 0.28, 2.0)))
    assert describe_winner(worse).startswith("18 of 90 groups removed save 20 % for 0.10 nats, and nothing else")


def test_numbers_have_two_digits_that_count() -> None:
    assert [show(value) for value in (1.234, 0.4051, 0.0361, 0.00031)] == ["1.23", "0.41", "0.036", "0.0003"]
    assert table_rows(DOCUMENT)[2]["tokens per second"] == "simulated"
    assert table_rows(DOCUMENT)[1]["tokens per second"] == "15.0 (1.50 ×)"
