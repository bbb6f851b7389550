"""Language tasks: a text cut into windows of tokens, to foretell the next token of each, or those that are hidden."""

from typing import Any, Literal

import torch
from torch import Tensor

from firstlight.errors import DataError
from firstlight.model.spec import Option
from firstlight.race.tasks.base import IGNORED, Split, Task
from firstlight.race.tasks.vocabulary import Vocabulary, fitted

Form = Literal["next", "masked"]

OPTIONS = (
    Option("form", None, "foretell the next token, or those that are hidden", "word", choices=("next", "masked")),
    Option("context", 64, "tokens of a window", "whole", 2),
    Option("tokens", "byte", "what a token is", "word", choices=("byte", "char", "word")),
    Option("vocab", 2048, "different tokens at most, for letters and words; the rest become unknown", "whole", 3),
    Option("train", None, "use so many windows to train on, spread over the text", "whole", 1),
    Option("validation", 256, "windows to validate on, at most", "whole", 1),
)
_BLOCKS, _EVERY = 100, 20  # of 100 blocks, one in 20 is to validate on and one in 20 to test on
_HIDDEN, _SHOWN_AS_MASK, _SHOWN_AS_OTHER = 0.15, 0.8, 0.1  # BERT's shares: hidden; of those, by the mask, by any token
_SEED = 20_181_011


def of_text(name: str, text: str, options: dict[str, Any]) -> Task:
    """Return the task of a text. Its blocks of train, validation and test share no letter.

    Raises:
        DataError: if the text is too short for a window in each part.
    """
    parts = _parts(text)
    vocabulary = fitted(options["tokens"], parts[0], options["vocab"])
    context, masked = options["context"], options["form"] == "masked"
    tokens = [vocabulary.encode(part) for part in parts]
    _check_length(name, tokens, context)
    most = (options.get("train"), options["validation"], None)
    windows = [_windows(part, context, limit) for part, limit in zip(tokens, most, strict=True)]
    splits = [_hidden(part[0], vocabulary) if masked else part for part in windows]
    kind, mask = ("masked-token", vocabulary.mask) if masked else ("next-token", None)
    return Task(name, splits[0], splits[1], splits[2], vocabulary.size, kind, mask)  # type: ignore[arg-type]  # one of Kind


def _parts(text: str) -> tuple[str, str, str]:
    """Return train, validation and test: blocks from all over the text, so that every part is like the whole."""
    edges = [len(text) * n // _BLOCKS for n in range(_BLOCKS + 1)]
    blocks = [text[edges[n] : edges[n + 1]] for n in range(_BLOCKS)]
    held = {_EVERY // 2 - 1: 1, _EVERY - 1: 2}
    found: tuple[list[str], list[str], list[str]] = ([], [], [])
    for n, block in enumerate(blocks):
        found[held.get(n % _EVERY, 0)].append(block)
    return "".join(found[0]), "".join(found[1]), "".join(found[2])


def _check_length(name: str, tokens: list[Tensor], context: int) -> None:
    shortest = min(len(part) for part in tokens)
    if shortest <= context:
        total = sum(len(part) for part in tokens)
        fits = f", or context={shortest - 1}" if shortest > 2 else ""
        raise DataError(
            f"text '{name}' has {total} tokens, of which 1 in {_EVERY} validate: {shortest}, fewer than the {context + 1} of a "
            f"window. Give a text of at least {_EVERY * (context + 2)} tokens{fits}. Nothing was loaded."
        )


def _windows(tokens: Tensor, context: int, most: int | None) -> Split:
    """Return windows that do not overlap, and for each token the next one. most: so many, evenly spread."""
    count = (len(tokens) - 1) // context
    inputs = tokens[: count * context].view(count, context)
    targets = tokens[1 : count * context + 1].view(count, context)
    if most is None or most >= count:
        return inputs, targets.contiguous()
    chosen = torch.arange(most) * count // most
    return inputs[chosen], targets[chosen]


def _hidden(tokens: Tensor, vocabulary: Vocabulary) -> Split:
    """Return windows with some tokens hidden as BERT does, always the same ones, and those tokens as targets."""
    generator = torch.Generator().manual_seed(_SEED)
    fate = torch.rand(tokens.shape, generator=generator) / _HIDDEN  # below 1: hidden
    other = torch.randint(0, vocabulary.size, tokens.shape, generator=generator)
    hidden = fate < 1
    hidden[~hidden.any(1), 0] = True  # a window in which nothing is asked would have no loss
    shown = torch.where(fate < _SHOWN_AS_MASK, torch.full_like(tokens, vocabulary.mask), other)
    replaced = hidden & (fate < _SHOWN_AS_MASK + _SHOWN_AS_OTHER)
    return torch.where(replaced, shown, tokens), torch.where(hidden, tokens, torch.full_like(tokens, IGNORED))
