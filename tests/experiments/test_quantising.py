"""A cache with few bits: exact values, the bound of the error, and the bytes."""

from __future__ import annotations

import pytest
import torch
from _cache_changes import count_bits, round_keys, round_to_bits, round_values


def test_numbers_on_the_grid_stay_exactly_and_others_go_to_the_nearest() -> None:
    grid = torch.tensor([[-3.0, -2.0, 0.0, 4.0, 12.0]])
    # 4 bits have 15 steps from -3 to 12, each of 1.
    torch.testing.assert_close(round_to_bits(grid, 4), grid, rtol=0, atol=0)
    torch.testing.assert_close(
        round_to_bits(torch.tensor([-3.0, 0.4, 0.6, 12.0]), 4), torch.tensor([-3.0, 0.0, 1.0, 12.0]), rtol=0, atol=0
    )
    # 1 bit has the two ends.
    assert round_to_bits(torch.tensor([0.0, 0.2, 0.9, 1.0]), 1).tolist() == [0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_error_is_at_most_half_a_step_and_what_16_bits_lose(bits: int) -> None:
    torch.manual_seed(0)
    values = torch.randn(50, 64) * 3
    reach = values.amax(-1, keepdim=True) - values.amin(-1, keepdim=True)
    lost = 2.0**-11 * (values.abs().amax(-1, keepdim=True) + reach)
    bound = reach / (2**bits - 1) / 2 + lost
    assert ((round_to_bits(values, bits) - values).abs() <= bound).all()


def test_a_key_is_rounded_with_its_channel_and_block_and_a_value_with_its_token_and_head() -> None:
    keys = torch.zeros(1, 4, 2)
    keys[0, :, 0] = torch.tensor([0.0, 1.0, 0.0, 100.0])
    # Each block of two tokens by itself: 1 bit keeps both ends of each.
    torch.testing.assert_close(round_keys(keys, 1, block=2), keys)
    # In one block 1 goes to the nearer end.
    assert round_keys(keys, 1, block=4)[0, :, 0].tolist() == [0.0, 0.0, 0.0, 100.0]
    values = torch.tensor([[[0.0, 1.0, 0.0, 100.0], [5.0, 5.0, 2.0, 1.0]]])
    torch.testing.assert_close(round_values(values, 1, size=2), values)
    assert round_values(values, 1, size=4)[0, 0].tolist() == [0.0, 0.0, 0.0, 100.0]


def test_scales_count_among_the_bits() -> None:
    # For 64 numbers of a block of keys, and for 64 of a head's value, two numbers of 16 bits each.
    assert count_bits(4, 64) == 4.5
    assert count_bits(8, 32, block=64) == 8.75
