"""Targets: the text that names a model, and how a model is made from it.

`load` finds what the text names and says clearly when it cannot; `Target.build` constructs it. Reading the model built
is roles.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from firstlight.errors import OptionError, TargetError, did_you_mean
from firstlight.model import spec
from firstlight.model.builtin import BUILTINS, BuiltIn
from firstlight.model.generators import own_generators
from firstlight.model.huggingface import ConfigFile, read_config
from firstlight.model.usercode import from_file, from_package

INIT = spec.Option("init", None, "the recipe that the model starts from; last, if it has options of its own", "word")


@dataclass(frozen=True, slots=True)
class Target:
    """A model that can be built: its text, the recipe it starts from (None: as it builds itself), and its builder.

    config: the Hugging Face config that the text names, None for any other target.
    example: an input without values that the model takes, None where nothing says what it takes.
    """

    text: str
    init: str | None
    make: Callable[[], nn.Module]
    config: ConfigFile | None = None
    example: Any = None

    def build(self, seed: int = 0, *, device: str = "cpu", dtype: torch.dtype | None = None) -> nn.Module:
        """Return a new model, constructed with every global generator seeded from `seed` and put back afterwards.

        What `init` names is not applied here: the model is as its own constructor leaves it.

        Args:
            seed: of the global generators, for constructors that draw.
            device: where the model's tensors are made; "meta" allocates nothing.
            dtype: of its floating tensors; None leaves the constructor's choice. A class of transformers is built in
                it and may hold to another for some tensors; any other model is converted.

        Raises:
            TargetError: if the user's code raises or does not return an nn.Module, or a built-in is too large for memory.
            OptionError: if the built-in's options do not go together, or the seed is not in range.
        """
        if not 0 <= seed < 2**64:
            raise OptionError(f"seed = {seed}, must be an integer with 0 <= seed < 2**64. Nothing was built.")
        with own_generators(seed), torch.device(device):
            if self.config is not None:
                return self.config.build(dtype)
            model = self.make()
        return model if dtype is None else model.to(dtype)

    def build_to_read(self) -> nn.Module:
        """Return the model for looking at shapes and roles only: a config's has no memory, any other is built as usual."""
        return self.build(device="cpu" if self.config is None else "meta")


def load(text: str) -> Target:
    """Return the target that a text names: `file.py:callable`, `package.module:callable`, `hf:config.json`, or a built-in.

    A callable is an nn.Module class, a function that returns a module, or a module; it is called without arguments.

    Args:
        text: for example "net.py:Net", "mypackage.models:small" or
        "mlp:depth=30,width=128,act=tanh,init=torch-default"; after hf: a config file of Hugging Face or its folder.

    Raises:
        TargetError: if the file, module, attribute or built-in does not exist, the user's code raises when imported, or a
            config cannot be read.
        OptionError: if a built-in has no such option, or its value is not allowed.

    Example:
        >>> target = load("mlp:depth=3,width=16,act=tanh,init=he")
        >>> target.init, len(list(target.build().parameters()))
        ('he', 6)
    """
    name, rest = spec.split(text)
    if name == "hf":
        config = read_config(text, rest)
        return Target(text, None, config.build, config)
    if name in BUILTINS:
        return _built_in(text, BUILTINS[name], rest)
    place, colon, attribute = text.strip().rpartition(":")
    if place.endswith(".py") or text.strip().endswith(".py"):
        with own_generators(0):
            return Target(text, None, from_file(text, place if colon else text.strip(), attribute if colon else ""))
    if colon and place and "=" not in attribute:
        with own_generators(0):
            return Target(text, None, from_package(text, place, attribute, names=tuple(BUILTINS)))
    raise TargetError(
        f"target '{text}' is not a model. Write file.py:callable, package.module:callable, hf:config.json, or a built-in: "
        f"{', '.join(BUILTINS)}.{did_you_mean(name, BUILTINS)}"
    )


def _built_in(text: str, entry: BuiltIn, rest: str) -> Target:
    values = spec.parse(f"target '{entry.name}'", rest, (*entry.options, INIT), tail="init")
    init: str | None = values.pop("init")

    def make() -> nn.Module:
        try:
            return entry.build(values)
        except (MemoryError, OverflowError, RuntimeError) as error:
            what = " ".join(str(error).split())[:300].rstrip(".")
            raise TargetError(
                f"target '{text}' cannot be built: {what}. Make it smaller. Nothing was built."
            ) from error

    return Target(text, init, make, example=entry.example(values))
