"""Built-in models: small, plain torch networks to try a start on. Each is a file with OPTIONS and build(options)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from firstlight.model.builtin import bert, cnn, gpt, lstm, mlp, resnet
from firstlight.model.spec import Option

__all__ = ["BUILTINS", "BuiltIn"]


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A built-in model: what it is, its options, and the function that builds it from checked options."""

    name: str
    summary: str
    options: tuple[Option, ...]
    build: Callable[[dict[str, Any]], nn.Module]


BUILTINS = {
    entry.name: entry
    for entry in (
        BuiltIn("mlp", "a plain stack of linear layers", mlp.OPTIONS, mlp.build),
        BuiltIn("cnn", "plain 3×3 convolutions at one resolution", cnn.OPTIONS, cnn.build),
        BuiltIn("resnet", "residual blocks of 3×3 convolutions", resnet.OPTIONS, resnet.build),
        BuiltIn("lstm", "a recurrent network that reads rows", lstm.OPTIONS, lstm.build),
        BuiltIn("gpt", "a causal transformer on token numbers", gpt.OPTIONS, gpt.build),
        BuiltIn("bert", "a transformer that sees both ways, on token numbers", bert.OPTIONS, bert.build),
    )
}
