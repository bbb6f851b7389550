"""Seconds until a whole model has its weights, against transformers' `from_config` and against touching its memory."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from firstlight.bench.timing import in_turn
from firstlight.plan import initialize

RECIPE = "normal:std=0.02"


def gpt2_small() -> Any:
    """Return the config of GPT-2 small: 124 M parameters."""
    from transformers import GPT2Config

    return GPT2Config()


def llama_1b() -> Any:
    """Return a Llama config of 1.1 B parameters, that of TinyLlama."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=32000,
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=22,
        num_attention_heads=32,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
    )


MODELS: dict[str, Callable[[], Any]] = {"gpt2-small": gpt2_small, "llama-1.1b": llama_1b}


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A model in float32. Times are seconds, medians of the rounds, from nothing to a model with weights.

    `touching` allocates memory for every tensor and stores a constant in it. against_transformers is from_config's time
    over firstlight's, against_touching touching's time over firstlight's.
    """

    model: str
    parameters: int
    threads: int
    firstlight: float
    transformers: float
    touching: float

    @property
    def against_transformers(self) -> float:
        """How many times as fast as from_config."""
        return self.transformers / self.firstlight

    @property
    def against_touching(self) -> float:
        """Which part of the speed of touching the memory once."""
        return self.touching / self.firstlight

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`."""
        ratios = {"against_transformers": self.against_transformers, "against_touching": self.against_touching}
        return asdict(self) | ratios


def has_transformers() -> bool:
    """Whether transformers is installed, without importing it."""
    return find_spec("transformers") is not None


def bench_models(configs: "dict[str, Callable[[], Any]] | None" = None, *, rounds: int = 3) -> Iterator[ModelRow]:
    """Yield a row for every config as soon as it is measured.

    firstlight builds the model on the meta device, plans 'normal:std=0.02' and applies the plan, which gives it memory;
    transformers runs `AutoModelForCausalLM.from_config`. firstlight and touching run once uncounted, so that kernels are
    loaded and the system has the memory at hand; each result is freed before the next begins.

    Args:
        configs: what returns a config, by name; default: MODELS.
        rounds: counted rounds; the median is reported.
    """
    from transformers import AutoModelForCausalLM

    for name, config in (MODELS if configs is None else configs).items():
        made = config()
        build = partial(AutoModelForCausalLM.from_config, made)
        with torch.device("meta"):
            shapes = [tensor.shape for tensor in build().parameters()]
        jobs = {"firstlight": partial(_ours, build), "transformers": build, "touching": partial(_touch, shapes)}
        times = in_turn(jobs, rounds, warm=("firstlight", "touching"))
        yield ModelRow(name, sum(shape.numel() for shape in shapes), torch.get_num_threads(), **times)


def _ours(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        model = build()
    return initialize(model, RECIPE)


def _touch(shapes: list[torch.Size]) -> list[torch.Tensor]:
    return [torch.empty(shape).fill_(0.5) for shape in shapes]
