"""64-bit keys of ids: functions of the id alone, independent of row, catalogue and library versions.

    number n:  mix_int(n)
    text:      mix_int(length, word 0, word 1, …)

Length and words are of the text's UTF-8 bytes; a word is eight of them, little-endian, padded with zeros. `mix_int` is
`facta.draws.mix_int`. Two different numbers never share a key; two texts do with a probability of 2^-64.

Letters: V ids, n texts with words left.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from torch import Tensor

from facta import arrays, draws
from facta.arrays import Ints

_WORD_BYTES = 8  # bytes


def id_keys(ids: pl.Series) -> Tensor:
    """Int64, UInt64 or String ids [V] -> int64 [V], on the CPU."""
    if ids.dtype == pl.String:
        return _of_texts(ids)
    numbers = torch.from_numpy(ids.to_numpy().astype(np.int64))  # an id above 2^63 wraps around, and stays distinct
    return draws.mix(torch.zeros_like(numbers), numbers)


def _of_texts(ids: pl.Series) -> Tensor:
    length = ids.str.len_bytes().to_numpy().astype(np.int64)
    words, starts = _words(ids, length)
    count = -(-length // _WORD_BYTES)
    keys = torch.from_numpy(length)
    keys = draws.mix(torch.zeros_like(keys), keys)
    for place in range(int(count.max(initial=0))):
        open_ = torch.from_numpy(np.flatnonzero(count > place))
        keys[open_] = draws.mix(keys[open_], words[torch.from_numpy(starts)[open_] + place])
    return keys


def _words(ids: pl.Series, length: Ints) -> tuple[Tensor, Ints]:
    """The words of all texts, concatenated, and [V] the beginning of each."""
    starts = arrays.offsets_of(-(-length // _WORD_BYTES))
    padded = np.zeros(int(starts[-1]) * _WORD_BYTES, dtype=np.uint8)
    whole = (ids.str.join("").item() or "").encode()
    padded[arrays.spans(starts[:-1] * _WORD_BYTES, length)] = np.frombuffer(whole, dtype=np.uint8)
    return torch.from_numpy(padded.view("<i8").astype(np.int64)), starts[:-1]
