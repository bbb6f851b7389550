"""Networks of the second zoo that see pictures: convolutions, windows, graphs and sets of pixels."""
# ruff: noqa: D101, D102 (the names say what they are)

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class LeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 16, 3, padding=1)
        self.fc1, self.fc2, self.fc3 = nn.Linear(64, 48), nn.Linear(48, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(torch.tanh(self.conv1(x)), 2)
        x = F.avg_pool2d(torch.tanh(self.conv2(x)), 2)
        x = torch.tanh(self.fc1(x.view(-1, 64)))
        return self.fc3(torch.tanh(self.fc2(x)))


class AlexNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(12, 16, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Dropout(0.2), nn.Linear(64, 64), nn.ReLU(inplace=True), nn.Dropout(0.2), nn.Linear(64, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


class VGG(nn.Module):
    def __init__(self, config: list[int | str], norm: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for v in config:
            if isinstance(v, str):
                layers += [nn.MaxPool2d(kernel_size=2, stride=2)]
            else:
                layers += [nn.Conv2d(channels, v, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
                layers[-1:-1] = [nn.BatchNorm2d(v)] if norm else []
                channels = v
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.classifier = nn.Sequential(nn.Linear(channels, 32), nn.ReLU(True), nn.Linear(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


class DenseNet(nn.Module):
    def __init__(self, growth: int = 6) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.layers = nn.ModuleList([self.layer(8 + i * growth, growth) for i in range(3)])
        self.transition = nn.Sequential(
            nn.BatchNorm2d(26), nn.ReLU(inplace=True), nn.Conv2d(26, 12, 1, bias=False), nn.AvgPool2d(2)
        )
        self.more = nn.ModuleList([self.layer(12 + i * growth, growth) for i in range(3)])
        self.norm, self.fc = nn.BatchNorm2d(30), nn.Linear(30, 10)

    @staticmethod
    def layer(channels: int, growth: int) -> nn.Sequential:
        return nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(inplace=False), nn.Conv2d(channels, growth, 3, padding=1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv0(x)
        for layer in self.layers:
            x = torch.cat((x, layer(x)), 1)
        x = self.transition(x)
        for layer in self.more:
            x = torch.cat((x, layer(x)), 1)
        return self.fc(F.adaptive_avg_pool2d(F.relu(self.norm(x)), 1).flatten(1))


class Inception(nn.Module):
    def __init__(self, channels: int, each: int) -> None:
        super().__init__()
        self.b1 = nn.Conv2d(channels, each, 1)
        self.b2a, self.b2b = nn.Conv2d(channels, each, 1), nn.Conv2d(each, each, 3, padding=1)
        self.b3a, self.b3b = nn.Conv2d(channels, each // 2, 1), nn.Conv2d(each // 2, each, 5, padding=2)
        self.b4 = nn.Conv2d(channels, each, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(
            [F.relu(self.b1(x)), F.relu(self.b2b(F.relu(self.b2a(x)))), F.relu(self.b3b(F.relu(self.b3a(x)))),
             F.relu(self.b4(F.max_pool2d(x, 3, 1, 1)))], dim=1,
        )  # fmt: skip


def googlenet() -> nn.Module:
    """Return three inception blocks."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), Inception(8, 4), nn.MaxPool2d(2), Inception(16, 6), Inception(24, 6),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10),
    )  # fmt: skip


class Bottleneck(nn.Module):
    """ResNeXt's, with groups."""

    def __init__(self, channels: int, width: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=4, bias=False)
        self.bn2, self.conv3 = nn.BatchNorm2d(width), nn.Conv2d(width, out, 1, bias=False)
        self.bn3, self.relu = nn.BatchNorm2d(out), nn.ReLU(inplace=True)
        same = stride == 1 and channels == out
        self.downsample = None if same else nn.Sequential(
            nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += identity
        return self.relu(out)


class InvertedResidual(nn.Module):
    """MobileNet's, with squeeze and excitation where asked."""

    def __init__(self, channels: int, out: int, stride: int, squeeze: bool = False) -> None:
        super().__init__()
        hidden = channels * 3
        act = nn.Hardswish if squeeze else nn.ReLU6
        self.use_res = stride == 1 and channels == out
        self.expand = nn.Sequential(nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), act())
        self.depthwise = nn.Sequential(
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False), nn.BatchNorm2d(hidden), act()
        )
        self.se = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(hidden, 8, 1), nn.ReLU(), nn.Conv2d(8, hidden, 1), nn.Hardsigmoid()
        ) if squeeze else None  # fmt: skip
        self.project = nn.Sequential(nn.Conv2d(hidden, out, 1, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.expand(x))
        if self.se is not None:
            y = y * self.se(y)
        y = self.project(y)
        return x + y if self.use_res else y


class ShuffleUnit(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(
            nn.Conv2d(half, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU(inplace=True),
            nn.Conv2d(half, half, 3, 1, 1, groups=half, bias=False), nn.BatchNorm2d(half),
            nn.Conv2d(half, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU(inplace=True),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1)
        out = torch.cat((left, self.branch(right)), dim=1)
        b, c, h, w = out.shape
        return out.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)


class ConvNeXtBlock(nn.Module):
    def __init__(self, dim: int, scale: float = 1e-6) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, kernel_size=5, padding=2, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1, self.act, self.pwconv2 = nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(scale * torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        y = self.dwconv(x).permute(0, 2, 3, 1)
        y = self.pwconv2(self.act(self.pwconv1(self.norm(y))))
        return x + (self.gamma * y).permute(0, 3, 1, 2)


class Added(nn.Module):
    """x + f(x), as ConvMixer's code has it."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(x) + x


def convmixer(dim: int, depth: int) -> nn.Module:
    """Return the six lines of the paper."""
    return nn.Sequential(
        nn.Conv2d(1, dim, kernel_size=2, stride=2), nn.GELU(), nn.BatchNorm2d(dim),
        *[nn.Sequential(
            Added(nn.Sequential(nn.Conv2d(dim, dim, 3, groups=dim, padding="same"), nn.GELU(), nn.BatchNorm2d(dim))),
            nn.Conv2d(dim, dim, kernel_size=1), nn.GELU(), nn.BatchNorm2d(dim)) for _ in range(depth)],
        nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(dim, 10),
    )  # fmt: skip


def pooled(width: int, *layers: nn.Module, out: int = 0) -> nn.Module:
    """Return the layers with a stem before them, and the mean over places and the classes after them."""
    head = nn.Linear(out or width, 10)
    return nn.Sequential(nn.Conv2d(1, width, 3, 2, 1), *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def discriminator(norm: str) -> nn.Module:
    """Return strided convolutions with leaky ReLU, spectrally or instance-normalised."""
    wrap = spectral_norm if norm == "spectral" else (lambda layer: layer)
    layers: list[nn.Module] = []
    for a, b, stride in ((1, 8, 1), (8, 12, 2), (12, 16, 1), (16, 24, 2)):
        layers += [wrap(nn.Conv2d(a, b, 3, stride, 1))]
        layers += [nn.InstanceNorm2d(b, affine=True)] if norm == "instance" else []
        layers += [nn.LeakyReLU(0.2, inplace=True)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(24 * 4, 10))


class StandardisedConv2d(nn.Conv2d):
    """A convolution whose weight is standardised in forward."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, w, self.bias, self.stride, self.padding, self.dilation, self.groups)


def standardised(width: int, depth: int) -> nn.Module:
    """Return convolutions with weight standardisation and group norm."""
    layers = [
        m
        for _ in range(depth)
        for m in (StandardisedConv2d(width, width, 3, padding=1), nn.GroupNorm(2, width), nn.SiLU())
    ]
    return pooled(width, *layers)


class DoubleConv(nn.Sequential):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(
            nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True),
            nn.Conv2d(b, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True),
        )  # fmt: skip


class UNetCat(nn.Module):
    """A U-Net that gets its picture at half size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inc, self.down1, self.down2 = (
            DoubleConv(1, width),
            DoubleConv(width, 2 * width),
            DoubleConv(2 * width, 2 * width),
        )
        self.up1, self.up2 = DoubleConv(4 * width, width), DoubleConv(2 * width, width)
        self.outc = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.inc(F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="nearest"))
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        y = self.up1(torch.cat([x2, F.interpolate(x3, scale_factor=2.0)], dim=1))
        return self.outc(self.up2(torch.cat([x1, F.interpolate(y, scale_factor=2.0)], dim=1))).flatten(1)
