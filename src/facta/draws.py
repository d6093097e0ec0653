"""Random numbers as pure functions of keys, so that nothing depends on batch order, batch size or process count.

Every draw in training (negatives, dropout, shuffles, windows) is `mix(key, place)`: the key identifies the owner (seed,
epoch, user, place in the history), the place numbers its draws. There is no generator state to save, so a run resumes
exactly from (seed, epoch, step), and two half batches draw the same numbers as one whole batch.

`mix(key, place)` is output number `place` of the splitmix64 generator that was seeded with `key` (Steele, Lea, Flood
2014), in wrapping int64 arithmetic.
"""

from __future__ import annotations

from enum import IntEnum

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64
_M1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_M2 = -7723592293110705685  # 0x94D049BB133111EB
_MASK64 = (1 << 64) - 1


class Purpose(IntEnum):
    """The purpose of a key or a draw; different purposes have different streams. Salts of dropouts are smaller."""

    EVENT = 1 << 32  # keys of input events
    TARGET = EVENT + 1  # keys of targets
    LENGTH = EVENT + 2  # which users share a batch
    SHUFFLE = EVENT + 3  # the order of batches
    STEP = EVENT + 4  # draws that all rows of a step share
    NEGATIVES = EVENT + 5  # negatives that all targets of a step share
    STOCHASTIC_LENGTH = EVENT + 6  # which events of a history are kept
    PREFIX = EVENT + 7  # keys of the prefix tokens of a history
    HIDDEN_HOURS = EVENT + 8  # how long before a target events are hidden from it
    CONTEXT = EVENT + 9  # which targets hide their context
    CLOZE = EVENT + 10  # which events of a row are masked and predicted


def _signed(value: int) -> int:
    value &= _MASK64
    return value - (1 << 64) if value >> 63 else value


def mix_int(*parts: int) -> int:
    """`mix` for Python integers: one int64 from any number of them."""
    state = 0
    for part in parts:
        z = (state + (part + 1) * _GOLDEN) & _MASK64
        z = ((z ^ (z >> 30)) * (_M1 & _MASK64)) & _MASK64
        z = ((z ^ (z >> 27)) * (_M2 & _MASK64)) & _MASK64
        state = z ^ (z >> 31)
    return _signed(state)


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical (zero-filling) right shift; torch's `>>` on int64 is arithmetic."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def mix(key: Tensor, place: Tensor | int) -> Tensor:
    """int64 keys and places (broadcast) -> int64 with all 64 bits usable; `mix(mix(0, a), b) == mix_int(a, b)`."""
    z = key + (_signed((place + 1) * _GOLDEN) if isinstance(place, int) else (place + 1) * _GOLDEN)
    z = (z ^ _shift(z, 30)) * _M1
    z = (z ^ _shift(z, 27)) * _M2
    return z ^ _shift(z, 31)


def below(bits: Tensor, bound: int) -> Tensor:
    """64 random bits -> uniform integers in [0, bound), bound <= 2**31; the bias is at most bound / 2**32."""
    return (_shift(bits, 32) * bound) >> 32


def dropout(x: Tensor, p: float, keys: Tensor, salt: int) -> Tensor:
    """Zero each of x [T, C] with probability p and scale the rest by 1 / (1 - p), as drawn for (keys [T], salt,
    channel).

    One 64-bit draw per token seeds cheap 32-bit draws per channel (murmur3's finaliser): 32-bit lanes vectorise on
    every CPU, 64-bit products do not.
    """
    if p == 0.0:
        return x
    token = mix(keys, salt).to(torch.int32)  # keeps the low 32 bits
    channel = mix(torch.arange(x.shape[1], device=x.device), ~salt).to(torch.int32)  # not salt: keys may count up too
    bits = token[:, None] ^ channel
    bits ^= (bits >> 16) & 0xFFFF
    bits *= -2048144789  # 0x85EBCA6B
    bits ^= (bits >> 13) & 0x7FFFF
    bits *= -1028477387  # 0xC2B2AE35
    keep = bits >= round(p * 2**32) - 2**31  # the sign bit and 31 more: uniform over int32
    return x * keep.to(x.dtype).mul_(1.0 / (1.0 - p))
