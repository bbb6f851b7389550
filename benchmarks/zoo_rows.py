"""The rows of the zoo: architecture x activation, small enough to train in a second, each with its data.

The architectures are in zoo_models.py and zoo_transformers.py; how they are trained is in zoo.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from zoo_models import (
    Autoencoder,
    Convolutional,
    Dense,
    Gated,
    Highway,
    Plain,
    Recurrent,
    Residual,
    ResidualConvolutional,
    Separable,
    Squeezed,
    TransposedAutoencoder,
    UNet,
)
from zoo_transformers import ExpertsPlain, Mixer, TextPlain, Transformer

_LARGE = torch.where(torch.isin(torch.arange(64), torch.tensor([10, 29, 45])), 100.0, 1.0).reshape(1, 8, 8)
_ORDER = torch.randperm(64, generator=torch.Generator().manual_seed(5))
_DECADES = torch.logspace(-2, 2, 64)[_ORDER].reshape(1, 8, 8)

# Badly scaled digits: far from 0; as bytes; 3 of 64 numbers 100 times as large; each of a size of its own, over four decades.
CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "shifted": lambda x: x + 10,
    "bytes": lambda x: (x + 0.8107) * 255 / 2.6631,
    "large": lambda x: x * _LARGE,
    "columns": lambda x: x * _DECADES,
}


@dataclass(frozen=True)
class Row:
    """A network of the zoo, how it is made, and its data: 'digits', 'picture', 'text' or 'next'.

    loop: whether runs go one by one, where torch.func cannot stack the layers with profit. batch: examples a step.
    change: what is done to the digits first, one of CHANGES, or nothing.
    """

    name: str
    kind: str
    make: Callable[[], nn.Module]
    data: str = "digits"
    loop: bool = False
    batch: int = 32
    change: str = ""


def rows() -> Iterator[Row]:
    """Yield the rows that `auto` was developed on."""
    for act in ("relu", "gelu", "silu", "hardswish", "softplus", "elu", "sigmoid", "tanh"):
        yield Row(f"mlp50-{act}", "plain", lambda act=act: Plain(act, [64] * 50))
    for act in ("relu2", "sin", "selu", "leaky", "mish", "softsign"):
        yield Row(f"mlp30-{act}", "plain", lambda act=act: Plain(act, [48] * 30))
    yield Row("mlp150-relu", "plain", lambda: Plain("relu", [32] * 150))
    yield Row("mlp150-tanh", "plain", lambda: Plain("tanh", [32] * 150))
    for act in ("sigmoid", "relu"):
        yield Row(f"tapering-{act}", "plain", lambda act=act: Plain(act, [192 - 9 * i for i in range(20)]))
    yield Row("expanding-gelu", "plain", lambda: Plain("gelu", [16 + 5 * i for i in range(20)]))
    yield Row("mlp6-relu", "plain", lambda: Plain("relu", [64] * 6))
    for act in ("silu", "sigmoid"):
        yield Row(f"glu16-{act}", "gated", lambda act=act: Gated(act, 16, 48))
    for act, norm in (("relu", "bn"), ("gelu", "ln"), ("tanh", "ln"), ("sigmoid", "bn"), ("silu", "rms")):
        yield Row(f"mlp30-{norm}-{act}", "normalised", lambda act=act, norm=norm: Plain(act, [48] * 30, norm))
    for act in ("relu", "tanh"):
        yield Row(f"residual40-{act}", "residual", lambda act=act: Residual(act, 40, 48))
    yield Row("residual16-pre-ln-gelu", "residual", lambda: Residual("gelu", 16, 48, "ln"))
    yield Row("residual16-post-ln-relu", "residual", lambda: Residual("relu", 16, 48, "ln", "post"))
    yield Row("residual16-pre-bn-silu", "residual", lambda: Residual("silu", 16, 48, "bn"))
    for act, depth in (("relu", 20), ("tanh", 20), ("silu", 12)):
        yield Row(
            f"cnn{depth}-{act}", "convolution",
            lambda act=act, depth=depth: Convolutional(act, depth, 8), loop=True, batch=16,
        )  # fmt: skip
    yield Row("cnn10-bn-relu", "convolution", lambda: Convolutional("relu", 10, 12, "bn"), loop=True, batch=16)
    yield Row(
        "cnn8-relu-flat", "convolution", lambda: Convolutional("relu", 8, 12, "", pool=False), loop=True, batch=16
    )
    yield Row("resnet4-bn-relu", "convolution", lambda: ResidualConvolutional("relu", 4, 12, "bn"), loop=True, batch=16)
    yield Row("resnet8-relu", "convolution", lambda: ResidualConvolutional("relu", 8, 8), loop=True, batch=16)
    yield Row("separable6-relu", "convolution", lambda: Separable("relu", 6, 12), loop=True, batch=16)
    for act in ("relu", "sigmoid", "tanh"):
        yield Row(
            f"autoencoder10-{act}", "autoencoder", lambda act=act: Autoencoder(act, (64, 48, 40, 32, 24)), "picture"
        )
    yield Row(
        "transposed-gelu", "autoencoder", lambda: TransposedAutoencoder("gelu", 4, 8), "picture", loop=True, batch=16
    )
    yield Row("rnn-tanh-pixels", "recurrent", lambda: Recurrent("RNN", 48, data="pixels"), loop=True)
    yield Row("rnn-relu-rows", "recurrent", lambda: Recurrent("RNN-relu", 48), loop=True)
    yield Row("lstm-rows", "recurrent", lambda: Recurrent("LSTM", 48, 2), loop=True)
    yield Row("gru-text", "recurrent", lambda: Recurrent("GRU", 48, data="text"), "text", loop=True)
    yield Row("lstm-text", "recurrent", lambda: Recurrent("LSTM", 48, 2, data="text"), "text", loop=True)
    for place, norm in (("pre", "ln"), ("post", "ln"), ("none", "")):
        at = place.replace("none", "pre")
        yield Row(
            f"gpt4-{place}-gelu", "transformer", lambda at=at, norm=norm: Transformer("gelu", 4, norm=norm, place=at), "text",
            batch=16,
        )  # fmt: skip
    yield Row("gpt8-rms-swiglu", "transformer", lambda: Transformer("glu-silu", 8, norm="rms"), "text", batch=16)
    yield Row("vit4-pre-gelu", "transformer", lambda: Transformer("gelu", 4, text=False))
    yield Row("mixer6-gelu", "mixer", lambda: Mixer("gelu", 6, 32))
    yield Row("moe3-gpt-silu", "experts", lambda: Transformer("silu", 3, experts=4), "text", batch=16)
    yield Row("moe10-plain-relu", "experts", lambda: ExpertsPlain("relu", 10, 32))
    yield Row("text-mlp20-relu", "plain", lambda: TextPlain("relu", 20, 64), "next")
    yield Row("text-mlp12-tanh", "plain", lambda: TextPlain("tanh", 12, 64), "next")


def held_out() -> Iterator[Row]:
    """Yield rows that were looked at only once `auto` was finished."""
    yield Row("mlp40-celu", "plain", lambda: Plain("celu", [56] * 40))
    yield Row("mlp24-quickgelu", "plain", lambda: Plain("quickgelu", [40] * 24))
    yield Row("bottleneck-mish", "plain", lambda: Plain("mish", ([64] * 4 + [16]) * 5))
    yield Row("dense16-relu", "joined", lambda: Dense("relu", 16, 16))
    yield Row("highway20-tanh", "gated", lambda: Highway("tanh", 20, 48))
    yield Row("squeezed6-silu", "convolution", lambda: Squeezed("silu", 6, 8), loop=True, batch=16)
    yield Row("cnn16-elu", "convolution", lambda: Convolutional("elu", 16, 8), loop=True, batch=16)
    yield Row("unet-relu", "autoencoder", lambda: UNet("relu", 8, 4), "picture", loop=True, batch=16)
    yield Row("gru-pixels", "recurrent", lambda: Recurrent("GRU", 40, data="pixels"), loop=True)
    yield Row(
        "gpt4-rms-relu2-tied", "transformer", lambda: Transformer("relu2", 4, norm="rms", tied=True), "text", batch=16
    )
    yield Row("residual24-post-bn-gelu", "residual", lambda: Residual("gelu", 24, 40, "bn", "post"))
    yield Row(
        "autoencoder16-softplus", "autoencoder", lambda: Autoencoder("softplus", [64] * 4 + [48] * 3 + [20]), "picture"
    )
