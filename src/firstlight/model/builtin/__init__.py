"""Built-in models: small, plain torch networks to try a start on. Each is a file with OPTIONS and build(options)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from firstlight.model.builtin import bert, cnn, gpt, lstm, mlp, resnet, vit
from firstlight.model.spec import Option

__all__ = ["BUILTINS", "BuiltIn"]


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A built-in model: what it is, its options, and functions of checked options: one builds it, one an input for it."""

    name: str
    summary: str
    options: tuple[Option, ...]
    build: Callable[[dict[str, Any]], nn.Module]
    example: Callable[[dict[str, Any]], Tensor]


def _floats(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def _picture(options: dict[str, Any]) -> Tensor:
    return _floats(2, options["in"], 8, 8)


def _square(options: dict[str, Any]) -> Tensor:
    return _floats(2, options["in"], options["size"], options["size"])


def _sequence(options: dict[str, Any]) -> Tensor:
    if options["vocab"] is not None:
        return torch.empty((2, 8), dtype=torch.long, device="meta")
    return _floats(2, 4, options["in"])


def _text(options: dict[str, Any]) -> Tensor:
    return torch.empty((2, min(8, options["context"])), dtype=torch.long, device="meta")


BUILTINS = {
    entry.name: entry
    for entry in (
        BuiltIn("mlp", "a plain stack of linear layers", mlp.OPTIONS, mlp.build, lambda o: _floats(2, o["in"])),
        BuiltIn("cnn", "plain 3×3 convolutions at one resolution", cnn.OPTIONS, cnn.build, _picture),
        BuiltIn("resnet", "residual blocks of 3×3 convolutions", resnet.OPTIONS, resnet.build, _picture),
        BuiltIn("vit", "a transformer on patches of a picture", vit.OPTIONS, vit.build, _square),
        BuiltIn("lstm", "a recurrent network that reads rows or token numbers", lstm.OPTIONS, lstm.build, _sequence),
        BuiltIn("gpt", "a causal transformer on token numbers", gpt.OPTIONS, gpt.build, _text),
        BuiltIn("bert", "a transformer that sees both ways, on token numbers", bert.OPTIONS, bert.build, _text),
    )
}
