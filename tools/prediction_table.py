"""Measure how well predictions hold: the tables of docs/prediction.md, printed as Markdown.

    python tools/prediction_table.py            # all rows, 20 draws: about ten minutes on one core
    python tools/prediction_table.py --seeds 3 --only bert gpt2
    python tools/prediction_table.py --large    # a config of 405 billion parameters, on the meta device

Each network is measured on one batch with weights of 20 seeds; a layer's error is that of its predicted std against the
mean of the measured ones, and a row shows the median and the largest over its layers. '±' is the standard error of the
measured means, 'one draw' how far one draw is expected to be from the mean, and in brackets how far it was: medians too.
"""

import argparse
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import mean, median, stdev
from typing import Any

import torch
from prediction_models import CLASSES, Experts, Mixer, UNet
from torch import Tensor, nn

import firstlight as fl
from firstlight.model.targets import load


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
    vit = _huggingface("ViT", image_size=32, patch_size=4, num_labels=CLASSES, **words)
    for name, build, batch, own in (("BERT", bert, ids, "bert"), ("GPT-2", gpt2, ids, "gpt2"),
                                    ("Llama", llama, ids, "llama"), ("ViT", vit, pixels, "normal:std=0.02")):  # fmt: skip
        for recipe in (own, "xavier"):
            yield Row(f"Hugging Face {name}", "deep", build, batch, recipe)


@dataclass
class Side:
    """By layer: relative errors, standard errors of the measured means, and what one draw is off by, predicted and measured."""

    errors: list[float] = field(default_factory=list)
    measuring: list[float] = field(default_factory=list)
    expected: list[float] = field(default_factory=list)
    found: list[float] = field(default_factory=list)

    def add(self, predicted: float, spread: float, seen: list[float]) -> None:
        """Enter a layer."""
        middle = mean(seen)
        self.errors.append(abs(predicted / middle - 1))
        self.expected.append(spread)
        self.found.append(stdev(seen) / middle if len(seen) > 1 else 0.0)
        self.measuring.append(self.found[-1] / len(seen) ** 0.5)

    def cells(self) -> list[str]:
        """Return the row's cells."""
        draw = f"{median(self.expected):.0%} ({median(self.found):.0%})"
        return [f"{median(self.errors):.1%}", f"{max(self.errors):.1%}", f"{median(self.measuring):.1%}", draw]


def compared(row: Row, seeds: int) -> tuple[Side, Side, float]:
    """Return how prediction and measurement compare by layer, forward and back, and the seconds that predicting took."""
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
    sides = (Side(), Side())
    for expected, *seen in zip(found, *passes, strict=True):
        for side, name in zip(sides, ("forward", "gradient"), strict=True):
            values = [getattr(one, f"{name}_std") for one in seen]
            predicted = getattr(expected, f"{name}_std")
            if predicted is not None and None not in values and mean(values) > 0:
                side.add(predicted, getattr(expected, f"{name}_spread"), values)
    return *sides, seconds


HEAD = (
    "| network | recipe | std: median | largest | ± | one draw | gradient: median | largest | ± | one draw | seconds |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)
TARGETS = {
    "plain": ("plain MLPs and CNNs, depth 50", "5 %", "15 %"),
    "deep": ("ResNets and transformers", "15 %", "30 %"),
    "other": ("others", "none", "none"),
}


def table(seeds: int, only: list[str]) -> None:
    """Print the table of errors, and each target beside its figure."""
    print(HEAD)
    sums: dict[str, tuple[list[float], list[float]]] = {}
    for row in rows():
        if only and not any(word.lower() in row.name.lower() for word in only):
            continue
        *sides, seconds = compared(row, seeds)
        for total, side in zip(sums.setdefault(row.group, ([], [])), sides, strict=True):
            total.extend(side.errors)
        cells = [cell for side in sides for cell in side.cells()]
        print(f"| {row.name} | {row.recipe} | {' | '.join(cells)} | {seconds:.1f} |", flush=True)
    print("\n| median over all layers of | to reach: std | found | to reach: gradient | found |\n|---|---|---|---|---|")
    for kind, (forward, back) in sums.items():
        name, one, other = TARGETS[kind]
        print(f"| {name} | {one} | {median(forward):.1%} | {other} | {median(back):.1%} |")


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
