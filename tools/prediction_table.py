"""Measure how well predictions hold: the tables of docs/prediction.md, printed as Markdown.

    python tools/prediction_table.py            # all rows, 20 draws: about ten minutes on one core
    python tools/prediction_table.py --seeds 3 --only bert gpt2
    python tools/prediction_table.py --large    # a config of 405 billion parameters, on the meta device

Each network is measured on one batch with weights of 20 seeds; a layer's error is that of its predicted std against the
mean of the measured ones, and a row shows the median and the largest over its layers.
"""

import argparse
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

import firstlight as fl
from firstlight.model.targets import load

_CLASSES = 10


@dataclass(frozen=True)
class Row:
    """A network to predict and to measure. group: 'plain' or 'deep' (residual), which have different targets, or 'other'."""

    name: str
    group: str
    build: Callable[[], nn.Module]
    batch: Callable[[], Any]
    recipe: str


def _numbers(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _tokens(vocab: int, *shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randint(0, vocab, shape, generator=torch.Generator().manual_seed(0))


def _target(spec: str) -> Callable[[], nn.Module]:
    return lambda: load(spec).build()


def _huggingface(kind: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import transformers

        config = getattr(transformers, f"{kind}Config")(**options)
        heads = {"Bert": "BertForMaskedLM", "GPT2": "GPT2LMHeadModel", "Llama": "LlamaForCausalLM",
                 "ViT": "ViTForImageClassification"}  # fmt: skip
        model: nn.Module = getattr(transformers, heads[kind])(config)
        return model

    return build


def rows() -> Iterator[Row]:
    """Yield all rows of the table."""
    flat, picture, text = _numbers(64, 64), _numbers(16, 1, 8, 8), _tokens(256, 8, 16)
    for width in (64, 256):
        for act, recipe in (("relu", "he"), ("tanh", "xavier"), ("relu", "orthogonal"), ("tanh", "orthogonal")):
            yield Row(
                f"MLP {act}, width {width}", "plain", _target(f"mlp:depth=50,width={width},act={act}"), flat, recipe
            )
    for act, recipe in (("relu", "he"), ("tanh", "xavier"), ("tanh", "delta-orthogonal")):
        yield Row(f"CNN {act}, width 64", "plain", _target(f"cnn:depth=50,width=64,act={act}"), picture, recipe)
    yield Row("ResNet, batch norm", "deep", _target("resnet:depth=8,width=64"), picture, "he")
    yield Row("ResNet, no norm", "deep", _target("resnet:depth=8,width=64,norm=none"), picture, "he")
    for recipe in ("gpt2", "xavier"):
        yield Row("GPT, pre-norm", "deep", _target("gpt:depth=8,width=64"), text, recipe)
    yield Row("BERT, post-norm", "deep", _target("bert:depth=8,width=64"), text, "bert")
    yield from _transformers()
    yield Row("MLP gelu, width 256", "other", _target("mlp:depth=50,width=256,act=gelu"), flat, "he")
    yield Row("LSTM", "other", _target("lstm:depth=1"), _numbers(32, 8, 8), "lstm")
    yield Row("LSTM", "other", _target("lstm:depth=1"), _numbers(32, 8, 8), "torch-default")
    yield Row("GRU", "other", _target("lstm:cell=gru"), _numbers(32, 8, 8), "torch-default")
    yield Row("MLP-Mixer", "other", Mixer, _numbers(16, 3, 16, 16), "lecun")
    yield Row("diffusion U-Net", "other", UNet, _numbers(16, 3, 16, 16), "he")
    yield Row("mixture of experts", "other", Experts, _tokens(100, 8, 16), "lecun")


def _transformers() -> Iterator[Row]:
    words = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4, "num_hidden_layers": 6}
    ids = lambda: {"input_ids": _tokens(500, 8, 32)()}  # noqa: E731
    pixels = lambda: {"pixel_values": _numbers(8, 3, 32, 32)()}  # noqa: E731
    bert = _huggingface("Bert", vocab_size=500, **words)
    gpt2 = _huggingface("GPT2", n_layer=6, n_embd=128, n_head=4, vocab_size=500, bos_token_id=0, eos_token_id=0)
    llama = _huggingface("Llama", vocab_size=500, num_key_value_heads=2, **words)
    vit = _huggingface("ViT", image_size=32, patch_size=4, num_labels=_CLASSES, **words)
    for name, build, batch, own in (("BERT", bert, ids, "bert"), ("GPT-2", gpt2, ids, "gpt2"),
                                    ("Llama", llama, ids, "llama"), ("ViT", vit, pixels, "normal:std=0.02")):  # fmt: skip
        for recipe in (own, "xavier"):
            yield Row(f"Hugging Face {name}", "deep", build, batch, recipe)


class MixerBlock(nn.Module):
    """Mix places, then channels, each with a residual sum."""

    def __init__(self, places: int, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.places = nn.Sequential(nn.Linear(places, 2 * places), nn.GELU(), nn.Linear(2 * places, places))
        self.channels = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, places, width) to the same shape."""
        x = x + self.places(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        out: Tensor = x + self.channels(self.norm2(x))
        return out


class Mixer(nn.Module):
    """An MLP-Mixer of four blocks."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.blocks = nn.Sequential(*(MixerBlock(16, width) for _ in range(4)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, _CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (N, 3, 16, 16) to logits."""
        out: Tensor = self.head(self.norm(self.blocks(self.patches(x).flatten(2).transpose(1, 2))).mean(1))
        return out


class UNetBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))) + time)))."""

    def __init__(self, width: int, times: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, width), nn.GroupNorm(8, width)
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.time, self.act = nn.Linear(times, width), nn.SiLU()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Map (N, width, H, W) to the same shape."""
        h = self.conv1(self.act(self.norm1(x))) + self.time(time)[:, :, None, None]
        out: Tensor = x + self.conv2(self.act(self.norm2(h)))
        return out


class UNet(nn.Module):
    """One level down and up again, with a skip that is joined and sines of a time."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.before, self.middle, self.after = (UNetBlock(n, 16) for n in (width, 2 * width, 2 * width))
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.head = nn.Conv2d(2 * width, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (N, 3, H, W) to the same shape."""
        phases = torch.arange(8.0) * 0.7
        time = torch.cat([torch.sin(phases), torch.cos(phases)]).expand(len(x), 16)
        high = self.before(self.stem(x), time)
        low = self.up(self.middle(self.down(high), time))
        out: Tensor = self.head(self.after(torch.cat([low, high], 1), time))
        return out


class Experts(nn.Module):
    """A token model with one layer of four experts, of which each token goes to two."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.embedding, self.norm = nn.Embedding(100, width), nn.LayerNorm(width)
        self.router = nn.Linear(width, 4)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)) for _ in range(4)
        )
        self.head = nn.Linear(width, 100)

    def forward(self, ids: Tensor) -> Tensor:
        """Map token numbers (N, T) to logits."""
        x = self.embedding(ids)
        y = self.norm(x)
        best, chosen = self.router(y).softmax(-1).topk(2, -1)
        best = best / best.sum(-1, keepdim=True)
        for number, expert in enumerate(self.experts):
            x = x + (best * (chosen == number)).sum(-1, keepdim=True) * expert(y)
        out: Tensor = self.head(x)
        return out


def errors(row: Row, seeds: int) -> tuple[list[float], list[float], float]:
    """Return the relative errors by layer, forward and back, and the seconds that predicting took."""
    model, batch = row.build(), row.batch()
    plan = fl.plan(model, row.recipe, example=batch)
    with torch.no_grad():
        out = model(**batch) if isinstance(batch, dict) else model(batch)
    shape = getattr(out, "logits", out).shape
    generator = torch.Generator().manual_seed(0)
    pictures = len(shape) == 4
    wanted = (
        torch.randn(shape, generator=generator)
        if pictures
        else torch.randint(0, shape[-1], shape[:-1], generator=generator)
    )
    started = time.perf_counter()
    found = fl.predict(model, example=batch, plan=plan, loss="mse" if pictures else "cross-entropy", target=wanted)
    seconds = time.perf_counter() - started
    passes = [fl.measure(plan.apply(model, seed=seed), batch, target=wanted) for seed in range(seeds)]
    forward: list[float] = []
    back: list[float] = []
    for expected, *seen in zip(found, *passes, strict=True):
        for values, name in ((forward, "forward_std"), (back, "gradient_std")):
            known = [getattr(one, name) for one in seen if getattr(one, name) is not None]
            mean = sum(known) / len(known) if known else 0.0
            if mean > 0 and getattr(expected, name) is not None:
                values.append(abs(getattr(expected, name) / mean - 1))
    return forward, back, seconds


def table(seeds: int, only: list[str]) -> None:
    """Print the table of errors, and each target beside its figure."""
    print(
        "| network | recipe | std: median | largest | gradient: median | largest | seconds |\n|---|---|---|---|---|---|---|"
    )
    sums: dict[str, tuple[list[float], list[float]]] = {}
    for row in rows():
        if only and not any(word.lower() in row.name.lower() for word in only):
            continue
        forward, back, seconds = errors(row, seeds)
        group = sums.setdefault(row.group, ([], []))
        group[0].extend(forward)
        group[1].extend(back)
        cells = [f"{value:.1%}" for part in (forward, back) for value in (median(part), max(part))]
        print(f"| {row.name} | {row.recipe} | {' | '.join(cells)} | {seconds:.1f} |", flush=True)
    print("\n| layers of | target: std | found | target: gradient | found |\n|---|---|---|---|---|")
    targets = {"plain": ("plain MLPs and CNNs, depth 50", "5 %", "15 %"),
               "deep": ("ResNets and transformers", "15 %", "30 %"), "other": ("others", "none", "none")}  # fmt: skip
    for kind, (all_forward, all_back) in sums.items():
        name, one, other = targets[kind]
        print(f"| {name} | {one} | {median(all_forward):.1%} | {other} | {median(all_back):.1%} |")


def large() -> None:
    """Predict a model of the size of Llama 3.1 405B on the meta device, and print seconds and peak memory."""
    import transformers

    config = transformers.LlamaConfig(
        hidden_size=16384, intermediate_size=53248, num_hidden_layers=126, num_attention_heads=128,
        num_key_value_heads=8, vocab_size=128256,
    )  # fmt: skip
    started = time.perf_counter()
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    built = time.perf_counter()
    plan = fl.plan(model, "llama")
    planned = time.perf_counter()
    found = fl.predict(model, plan=plan)
    done = time.perf_counter()
    count = sum(p.numel() for p in model.parameters()) / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{count:.1f} billion parameters, {len(found)} rows: built in {built - started:.1f} s, "
        f"planned in {planned - built:.1f} s, "
        f"predicted in {done - planned:.1f} s; peak memory of the process {peak:.2f} GiB"
    )


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, default=20)
    options.add_argument("--only", nargs="*", default=[], help="words of the names of networks")
    options.add_argument("--large", action="store_true")
    given = options.parse_args()
    large() if given.large else table(given.seeds, given.only)
