"""`Job`: all that is to be written, decided before anything is: the tensors, the files' metadata, the config."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from firstlight._version import __version__
from firstlight.apply.check import checked
from firstlight.checkpoint.safetensors import DTYPES
from firstlight.checkpoint.stored import Stored, stored
from firstlight.errors import DtypeError
from firstlight.model.huggingface import CONFIG, is_pretrained
from firstlight.model.roles import entries
from firstlight.model.targets import Target, load
from firstlight.plan import Plan, plan
from firstlight.recipes import Recipe


@dataclass(frozen=True, slots=True)
class Job:
    """What a checkpoint holds. texts: small files by name; parameters: values of the model that are trained."""

    parts: tuple[Stored, ...]
    seed: int
    metadata: Mapping[str, str]
    texts: Mapping[str, str]
    parameters: int

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return sum(part.nbytes for part in self.parts)


def prepare(
    target: str | os.PathLike[str],
    recipe: str | os.PathLike[str] | Recipe | Plan,
    dtype: torch.dtype | None,
    seed: int,
    *,
    native: bool,
) -> Job:
    """Build the model on the meta device, plan it, and return what is to be written.

    Args:
        target, recipe, dtype, seed: as for `create`.
        native: keep the model's own names and shapes, whatever transformers would write.

    Raises:
        TargetError, PlanError, DtypeError, OptionError: if the model cannot be built or planned.
    """
    found = target_of(target)
    model = found.build(device="meta", dtype=dtype)
    made = plan(model, recipe, example=found.example)
    checked(made.rows, entries(model))
    parts = stored(model, made.rows, lambda: found.build(dtype=dtype), seed=seed, native=native)
    for part in parts:
        if part.dtype not in DTYPES:
            raise DtypeError(f"'{part.name}' {part.shape} has dtype {part.dtype}, which no file can hold.")
    metadata = {
        "format": "pt",
        "recipe": made.recipe,
        "plan_hash": made.digest,
        "seed": str(seed),
        "stream_version": str(made.stream),
        "firstlight_version": __version__,
    }
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Job(parts, seed, metadata, _texts(found, model), parameters)


def target_of(target: str | os.PathLike[str]) -> Target:
    """Return the target that a TARGET, or the path of a Hugging Face config or of its folder, names."""
    text = os.fspath(target)
    is_config = not isinstance(target, str) or text.endswith(".json") or Path(text).is_dir()
    return load(f"hf:{text}" if is_config and not text.startswith("hf:") else text)


def _texts(target: Target, model: nn.Module) -> dict[str, str]:
    """Return the config as it stands, but for what is true of these weights: the class, the dtype, no quantisation."""
    if not is_pretrained(model):
        return {}
    held: Any = model
    data = dict(target.config.data) if target.config is not None else json.loads(held.config.to_json_string())
    data.pop("quantization_config", None)
    dtype = str(held.dtype).removeprefix("torch.")
    data["architectures"] = [type(model).__name__]
    data["dtype"] = dtype
    if "torch_dtype" in data:
        data["torch_dtype"] = dtype
    return {CONFIG: json.dumps(data, indent=2, ensure_ascii=False) + "\n"}
