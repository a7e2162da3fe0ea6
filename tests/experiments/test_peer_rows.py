"""What is nearest to the full model is said first, with numbers of the document."""

from __future__ import annotations

from _peer_rows import describe_gains, describe_winner, show, table_rows
from peer_documents import DOCUMENT


def test_a_rounded_cache_is_named_where_it_is_nearer_at_no_more_bytes() -> None:
    assert describe_winner(DOCUMENT) == (
        "a cache in 8 bits (simulated) is nearest to the full model at as few bytes: it saves 47 % of the cache for a "
        "KL divergence of 0.0003 nats [0.0003, 0.0003], where 18 of 90 groups removed save 20 % for 0.10 nats "
        "[0.090, 0.11]; a cache in 4 bits (simulated) is nearest to the full model at as few bytes: it saves 72 % of "
        "the cache for a KL divergence of 0.036 nats [0.032, 0.040], where 45 of 90 groups removed save 50 % for 0.41 "
        "nats [0.36, 0.45]"
    )
    assert describe_gains(DOCUMENT) == (
        "Removing 45 of 90 groups also saves 10.0 % of the weights and writes 1.50 × as fast at 2,048 tokens of "
        "context; a rounded cache does not do that by itself"
    )


def test_numbers_have_two_digits_that_count() -> None:
    assert [show(value) for value in (1.234, 0.4051, 0.0361, 0.00031)] == ["1.23", "0.41", "0.036", "0.0003"]
    assert table_rows(DOCUMENT)[2]["tokens per second"] == "simulated"
    assert table_rows(DOCUMENT)[1]["tokens per second"] == "15.0 (1.50 ×)"
