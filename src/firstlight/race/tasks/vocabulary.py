"""Vocabularies: from text to token numbers. Bytes need none; letters and words are counted on the training part alone."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Unit = Literal["byte", "char", "word"]

MASK_BYTE = 255  # is in no text of UTF-8
SPECIAL = ("<mask>", "<unknown>")  # the first two tokens of the other vocabularies
_WORDS = re.compile(r"\w+|\s+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """size: how many tokens there are, special ones included. mask: the token of a hidden one. encode: text to numbers."""

    size: int
    mask: int
    encode: Callable[[str], Tensor]


def fitted(unit: Unit, text: str, most: int) -> Vocabulary:
    """Return the vocabulary of a training text. most: tokens at most, the rarest become unknown; bytes are always 256.

    >>> vocabulary = fitted("char", "abba c", 5)
    >>> vocabulary.size, vocabulary.encode("abcz").tolist()
    (5, [2, 3, 1, 1])
    """
    if unit == "byte":
        return Vocabulary(256, MASK_BYTE, lambda part: torch.from_numpy(_bytes(part)))
    cut = _WORDS.findall if unit == "word" else list
    counts = Counter(cut(text))
    common = sorted(counts, key=lambda token: (-counts[token], token))[: max(most - len(SPECIAL), 0)]
    numbers = {token: n for n, token in enumerate(common, len(SPECIAL))}

    def encode(part: str) -> Tensor:
        tokens: Iterable[str] = cut(part)
        return torch.tensor([numbers.get(token, 1) for token in tokens], dtype=torch.long)

    return Vocabulary(len(common) + len(SPECIAL), 0, encode)


def _bytes(text: str) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int64)
