"""Every operator by itself: what is predicted of its output and of the gradient at its input, against measured passes.

A case stands between a linear stem, whose fresh weights make its input normal, and a linear head, whose small output makes
the gradient one that it knows nothing of. The tolerance is four standard errors of the mean over draws, and on top what a
rule may be off by: 5 % forward and 12 % back.
"""

import math
from collections.abc import Callable
from statistics import mean, stdev
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import firstlight as fl

DRAWS, ERRORS, FORWARD, BACK = 16, 4, 0.05, 0.12
FLAT, SEQUENCE, PICTURE, LINE, VOLUME = (32, 256), (8, 16, 256), (8, 16, 8, 8), (8, 16, 16), (4, 16, 4, 4, 4)
Build = Callable[[], nn.Module]


class Of(nn.Module):
    """A function of the signal."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Both(nn.Module):
    """A function of the signal and of a linear layer's output."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], width: int = 256) -> None:
        super().__init__()
        self.linear, self.function = nn.Linear(width, width), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.linear(x))


class Attention(nn.Module):
    """Four heads of attention, computed by a function of queries, keys and values."""

    def __init__(self, mix: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(256, 256) for _ in range(3))
        self.mix = mix

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        heads = [
            part(x).view(batch, time, 4, width // 4).transpose(1, 2) for part in (self.query, self.key, self.value)
        ]
        return self.mix(*heads).transpose(1, 2).reshape(batch, time, width)


class MultiHead(nn.Module):
    """torch's own attention, of the signal with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(256, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return out


class Recurrent(nn.Module):
    """All outputs of a recurrent layer, or the last of a cell that is run by hand for four steps."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.layer, nn.RNNBase):
            out: Tensor = self.layer(x)[0]
            return out
        state: Any = None
        for step in range(4):
            state = self.layer(x[:, step], state)
        last: Tensor = state[0] if isinstance(state, tuple) else state
        return last


def written(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    later = torch.ones(scores.shape[-2:], device=q.device).triu(1).bool()
    return scores.masked_fill(later, -math.inf).softmax(-1) @ v


def scaled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


OPTIONS: dict[str, dict[str, Any]] = {
    "Threshold": {"threshold": 0.1, "value": 0.3},
    "Softmax": {"dim": -1},
    "Softmin": {"dim": -1},
    "LogSoftmax": {"dim": -1},
}
NOT_ELEMENTWISE = {"MultiheadAttention"}  # is among the cases below
ACTIVATIONS = sorted(set(torch.nn.modules.activation.__all__) - NOT_ELEMENTWISE)

PRODUCTS: dict[str, tuple[Build, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(256, 96), FLAT),
    "bilinear": (lambda: Both(nn.Bilinear(256, 256, 32)), FLAT),
    "matmul": (lambda: Both(lambda a, b: a @ b.mT / 16), SEQUENCE),
    "bmm": (lambda: Both(lambda a, b: torch.bmm(a, b.transpose(1, 2)) / 16), SEQUENCE),
    "einsum": (lambda: Both(lambda a, b: torch.einsum("btd,bsd->bts", a, b) / 16), SEQUENCE),
    "product of a signal with itself": (lambda: Of(lambda x: x @ x.mT / 16), SEQUENCE),
    "convolution": (lambda: nn.Conv2d(16, 32, 3, padding=1), PICTURE),
    "convolution without padding": (lambda: nn.Conv2d(16, 32, 3), PICTURE),
    "convolution with stride": (lambda: nn.Conv2d(16, 32, 3, stride=2, padding=1), PICTURE),
    "dilated convolution": (lambda: nn.Conv2d(16, 32, 3, dilation=2, padding=2), PICTURE),
    "grouped convolution": (lambda: nn.Conv2d(16, 32, 3, groups=4, padding=1), PICTURE),
    "depthwise convolution": (lambda: nn.Conv2d(16, 64, 3, groups=16, padding=1), PICTURE),
    "circular convolution": (lambda: nn.Conv2d(16, 32, 3, padding=1, padding_mode="circular"), PICTURE),
    "reflecting convolution": (lambda: nn.Conv2d(16, 32, 3, padding=1, padding_mode="reflect"), PICTURE),
    "convolution of lines": (lambda: nn.Conv1d(16, 32, 3, padding=1), LINE),
    "convolution of volumes": (lambda: nn.Conv3d(16, 32, 3, padding=1), VOLUME),
    "transposed convolution": (lambda: nn.ConvTranspose2d(16, 32, 3, 2, 1, 1), PICTURE),
    "grouped transposed convolution": (lambda: nn.ConvTranspose2d(16, 32, 3, 2, groups=4), PICTURE),
    "transposed convolution of lines": (lambda: nn.ConvTranspose1d(16, 32, 4, 2), LINE),
    "attention": (lambda: Attention(F.scaled_dot_product_attention), SEQUENCE),
    "causal attention": (lambda: Attention(scaled), SEQUENCE),
    "attention written out": (lambda: Attention(written), SEQUENCE),
    "causal attention written out": (lambda: Attention(causal), SEQUENCE),
    "torch's attention": (MultiHead, SEQUENCE),
    "RNN": (lambda: Recurrent(nn.RNN(256, 128, batch_first=True)), SEQUENCE),
    "LSTM": (lambda: Recurrent(nn.LSTM(256, 128, batch_first=True)), SEQUENCE),
    "GRU": (lambda: Recurrent(nn.GRU(256, 128, batch_first=True)), SEQUENCE),
    "RNN cell": (lambda: Recurrent(nn.RNNCell(256, 128)), SEQUENCE),
    "LSTM cell": (lambda: Recurrent(nn.LSTMCell(256, 128)), SEQUENCE),
    "GRU cell": (lambda: Recurrent(nn.GRUCell(256, 128)), SEQUENCE),
}
NORMS: dict[str, tuple[Build, tuple[int, ...]]] = {
    "layer norm": (lambda: nn.LayerNorm(256), FLAT),
    "RMS norm": (lambda: nn.RMSNorm(256), FLAT),
    "RMS norm by hand": (lambda: Of(lambda x: x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()), FLAT),
    "layer norm by hand": (lambda: Of(lambda x: (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)), FLAT),
    "batch norm": (lambda: nn.BatchNorm1d(256), FLAT),
    "batch norm in evaluation": (lambda: nn.BatchNorm1d(256).eval(), FLAT),
    "batch norm of pictures": (lambda: nn.BatchNorm2d(16), PICTURE),
    "batch norm of volumes": (lambda: nn.BatchNorm3d(16), VOLUME),
    "group norm": (lambda: nn.GroupNorm(4, 16), PICTURE),
    "instance norm": (lambda: nn.InstanceNorm2d(16), PICTURE),
    "instance norm of lines": (lambda: nn.InstanceNorm1d(16), LINE),
    "local response norm": (lambda: nn.LocalResponseNorm(5), PICTURE),
    "unit length": (lambda: Of(lambda x: F.normalize(x, dim=-1)), FLAT),
}
ARITHMETIC: dict[str, tuple[Build, tuple[int, ...]]] = {
    "residual sum": (lambda: Both(lambda x, y: x + y), FLAT),
    "residual sum with an activation": (lambda: Both(lambda x, y: x + torch.relu(y)), FLAT),
    "sum with its own activation": (lambda: Of(lambda x: x + torch.relu(x)), FLAT),
    "sum of three that share parts": (lambda: Both(lambda x, y: torch.relu(x) + x + y), FLAT),
    "difference that takes out a part": (lambda: Both(lambda x, y: (x + y) - 0.5 * x), FLAT),
    "gate": (lambda: Both(lambda x, y: x * torch.sigmoid(y)), FLAT),
    "gate by hand": (lambda: Of(lambda x: x * torch.sigmoid(x)), FLAT),
    "interpolation by a gate": (lambda: Both(lambda x, y: y.tanh() + torch.sigmoid(x) * (x - y.tanh())), FLAT),
    "SwiGLU": (lambda: Of(lambda x: F.silu(x[..., :128]) * x[..., 128:]), FLAT),
    "halves of a chunk": (lambda: Of(lambda x: x.chunk(2, -1)[0] * F.gelu(x.chunk(2, -1)[1])), FLAT),
    "square": (lambda: Of(lambda x: x * x), FLAT),
    "division": (lambda: Both(lambda x, y: x / (1 + y.abs())), FLAT),
    "choice by sign": (lambda: Both(lambda x, y: torch.where(x > 0, x, y)), FLAT),
    "choice between functions": (lambda: Of(lambda x: torch.where(x > 0.5, x, 0.1 * x.square())), FLAT),
    "masked fill": (lambda: Of(lambda x: x.masked_fill(x < 0.3, 1.0)), FLAT),
    "maximum": (lambda: Both(torch.maximum), FLAT),
    "interpolation": (lambda: Both(lambda x, y: torch.lerp(x, y, 0.3)), FLAT),
    "cat": (lambda: Both(lambda x, y: torch.cat([x, y], -1)), FLAT),
    "cat of unlike parts": (lambda: Both(lambda x, y: torch.cat([x, 3 * torch.relu(y)], -1)), FLAT),
    "cat of parts with means": (lambda: Of(lambda x: torch.cat([x.relu(), (-x).relu()], -1)), FLAT),
    "cat of channels": (lambda: Of(lambda x: torch.cat([x, 2 * x.relu()], 1)), PICTURE),
    "cat of tokens": (lambda: Both(lambda x, y: torch.cat([x, y], 1)), SEQUENCE),
    "stack": (lambda: Both(lambda x, y: torch.stack([x, y], 1)), FLAT),
    "split": (lambda: Of(lambda x: torch.split(x, [32, 224], -1)[1]), FLAT),
    "every other token": (lambda: Of(lambda x: x[:, ::2]), SEQUENCE),
    "tokens by number": (lambda: Of(lambda x: x[:, [3, 1, 2]]), SEQUENCE),
    "mean": (lambda: Of(lambda x: x.relu().mean(1)), SEQUENCE),
    "sum": (lambda: Of(lambda x: x.sum(1)), SEQUENCE),
    "running sum": (lambda: Of(lambda x: x.cumsum(1)), SEQUENCE),
    "largest": (lambda: Of(lambda x: x.amax(1)), SEQUENCE),
    "variance": (lambda: Of(lambda x: x.var(1)), SEQUENCE),
    "log of a sum of powers": (lambda: Of(lambda x: x.logsumexp(1)), SEQUENCE),
    "dropout": (lambda: nn.Dropout(0.3), FLAT),
    "dropout of channels": (lambda: nn.Dropout2d(0.3), PICTURE),
    "alpha dropout": (lambda: nn.AlphaDropout(0.3), FLAT),
}
PLACES: dict[str, tuple[Build, tuple[int, ...]]] = {
    "largest of windows": (lambda: nn.MaxPool2d(2), PICTURE),
    "largest of ReLU": (lambda: nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), PICTURE),
    "largest of GELU": (lambda: nn.Sequential(nn.GELU(), nn.MaxPool2d(2)), PICTURE),
    "largest of windows that overlap": (lambda: nn.MaxPool2d(3, 2, 1), PICTURE),
    "largest along lines": (lambda: nn.MaxPool1d(2), LINE),
    "average of windows": (lambda: nn.AvgPool2d(2), PICTURE),
    "average with a border": (lambda: nn.AvgPool2d(3, 2, 1), PICTURE),
    "average without the border": (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), PICTURE),
    "average along lines": (lambda: nn.AvgPool1d(2), LINE),
    "average of volumes": (lambda: nn.AvgPool3d(2), VOLUME),
    "adaptive average": (lambda: nn.AdaptiveAvgPool2d(2), PICTURE),
    "adaptive average along lines": (lambda: nn.AdaptiveAvgPool1d(3), LINE),
    "adaptive largest": (lambda: nn.AdaptiveMaxPool2d(2), PICTURE),
    "zeros around": (lambda: nn.ZeroPad2d(2), PICTURE),
    "a number around": (lambda: nn.ConstantPad2d(1, 0.5), PICTURE),
    "reflection": (lambda: nn.ReflectionPad2d(2), PICTURE),
    "reflection of lines": (lambda: nn.ReflectionPad1d(2), LINE),
    "replication": (lambda: nn.ReplicationPad2d(2), PICTURE),
    "circular padding": (lambda: nn.CircularPad2d(2), PICTURE),
    "circular padding of lines": (lambda: nn.CircularPad1d(2), LINE),
    "nearest upsampling": (lambda: nn.Upsample(scale_factor=2), PICTURE),
    "bilinear upsampling": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), PICTURE),
    "pixel shuffle": (lambda: nn.PixelShuffle(2), PICTURE),
}
CASES = {**PRODUCTS, **NORMS, **ARITHMETIC, **PLACES}
SAMPLED = {  # have no rule, or none that fits: run alone on drawn inputs
    "bilinear", "product of a signal with itself", "layer norm by hand", "unit length", "maximum", "interpolation",
    "largest", "variance", "log of a sum of powers", "pixel shuffle",
}  # fmt: skip
SAMPLED_ACTIVATIONS = {"RReLU"}


class Case(nn.Module):
    """stem, the operator, and a head."""

    def __init__(self, build: Build, shape: tuple[int, ...]) -> None:
        super().__init__()
        kinds = {LINE: nn.Conv1d, PICTURE: nn.Conv2d, VOLUME: nn.Conv3d}
        self.stem = kinds[shape](16, 16, 3, padding=1) if shape in kinds else nn.Linear(256, 256)
        self.operator, self.out = build(), nn.Identity()
        with torch.no_grad():
            made = self.operator(self.stem(torch.zeros(shape)))
        self.head = nn.Linear(made.shape[-1], 32)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.out(self.operator(self.stem(x)))) * 0.01
        return out


def check(build: Build, shape: tuple[int, ...], *, sampled: bool, spoilt: float = 1.0) -> None:
    """Compare what is predicted, made `spoilt` times larger, with the mean of the measured."""
    torch.manual_seed(0)
    model, batch = Case(build, shape), torch.randn(shape, generator=torch.Generator().manual_seed(0))
    plan = fl.plan(model, "lecun", example=batch)
    with torch.no_grad():
        target = torch.randn(model(batch).shape, generator=torch.Generator().manual_seed(1))
    rows = fl.predict(model, example=batch, plan=plan, loss="mse", target=target)
    seen = []
    for seed in range(DRAWS):
        torch.manual_seed(seed)  # what dropout leaves out
        seen.append(fl.measure(plan.apply(model, seed=seed), batch, target=target))
    for layer, name, bias in (("out", "forward_std", FORWARD), ("stem", "gradient_std", BACK)):
        found = [getattr(one[layer], name) for one in seen]
        error = ERRORS * stdev(found) / math.sqrt(DRAWS) / mean(found)
        assert spoilt * getattr(rows[layer], name) / mean(found) == pytest.approx(1, abs=error + bias), name
    assert rows["out"].found_by == ("sampled" if sampled else "rule")
    assert any("was sampled" in line for line in rows.not_observed) == sampled


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_of_torch_is_predicted(name: str) -> None:
    shape = PICTURE if name == "Softmax2d" else FLAT
    check(lambda: getattr(nn, name)(**OPTIONS.get(name, {})), shape, sampled=name in SAMPLED_ACTIVATIONS)


@pytest.mark.parametrize("name", CASES)
def test_every_operator_is_predicted_or_sampled(name: str) -> None:
    check(*CASES[name], sampled=name in SAMPLED)


@pytest.mark.parametrize("factor", [0.85, 1.2])
def test_a_prediction_that_is_off_is_not_let_through(factor: float) -> None:
    with pytest.raises(AssertionError, match="forward_std"):
        check(nn.GELU, FLAT, sampled=False, spoilt=factor)
