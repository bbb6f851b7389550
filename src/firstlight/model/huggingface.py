"""Hugging Face: from a config file to a model, without weights and without the network. Needs the extra firstlight[hf].

What a checkpoint of such a model holds, and under which names, is in checkpoint/stored.py.
"""

import contextlib
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from logging import ERROR
from pathlib import Path
from typing import Any

import torch
from torch import nn

from firstlight.errors import TargetError, did_you_mean

CONFIG = "config.json"


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A Hugging Face config on disk: where it is and what it says. The file is read when this is made, nothing else is."""

    text: str
    path: Path
    data: dict[str, Any]

    def build(self, dtype: torch.dtype | None = None) -> nn.Module:
        """Return the model that `architectures` names, or the causal one, or the base one, of the config's type.

        Its dtype is the one given, else the config's, else float32. Weights are as transformers initialises them;
        inside `torch.device("meta")` there are none and nothing is allocated.

        Raises:
            TargetError: if transformers is missing, does not know the model, or refuses the config.
        """
        with _quietly(), _one_line(self.text, "building the model"):
            config = self._config()
            kind = self._class(config)
            return kind._from_config(config, dtype=dtype or _dtype(config.dtype) or torch.float32)  # type: ignore[no-any-return]  # transformers is not typed

    def _config(self) -> Any:
        from transformers import CONFIG_MAPPING

        name = self.data.get("model_type")
        if not isinstance(name, str) or name not in CONFIG_MAPPING:
            if "auto_map" in self.data:
                raise TargetError(
                    f"target '{self.text}': model_type = {name!r} comes with code of its own (auto_map), which is not run. "
                    "Use file.py:callable with a function that builds the model."
                )
            near = did_you_mean(str(name), CONFIG_MAPPING)
            raise TargetError(
                f"target '{self.text}': model_type = {name!r} is not one that transformers knows. "
                f"Write the type of the model in {self.path}.{near}"
            )
        data = {key: value for key, value in self.data.items() if key != "quantization_config"}
        return CONFIG_MAPPING[name].from_dict(data)

    def _class(self, config: Any) -> Any:
        import transformers

        named = self.data.get("architectures") or []
        if not named:
            causal = transformers.MODEL_FOR_CAUSAL_LM_MAPPING
            mapping = causal if type(config) in causal else transformers.MODEL_MAPPING
            if type(config) not in mapping:
                raise TargetError(
                    f"target '{self.text}': no architectures are named and '{config.model_type}' has no default model. "
                    f"""Write "architectures": ["ClassName"] in {self.path}."""
                )
            return mapping[type(config)]
        kind = getattr(transformers, str(named[0]), None)
        if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
            family = type(config).__name__.removesuffix("Config")
            near = did_you_mean(str(named[0]), [name for name in dir(transformers) if name.startswith(family)])
            raise TargetError(
                f"target '{self.text}': architectures = {named[0]!r} is not a model that transformers has.{near}"
            )
        return kind


def read_config(text: str, place: str) -> ConfigFile:
    """Return the config file that `place`, a file or a folder with a config.json, holds.

    Args:
        text: the target, for messages.
        place: a path.

    Raises:
        TargetError: if transformers is not installed, or the file is not there or not a JSON object.
    """
    _need_transformers(text)
    path = Path(place) / CONFIG if Path(place).is_dir() else Path(place)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        near = did_you_mean(path.name, (p.name for p in path.parent.glob("*.json"))) if path.parent.is_dir() else ""
        raise TargetError(f"target '{text}': '{path}' cannot be read: {error.strerror}.{near}") from error
    except UnicodeDecodeError as error:
        raise TargetError(f"target '{text}': '{path}' is not a text file in UTF-8.") from error
    except json.JSONDecodeError as error:
        raise TargetError(f"target '{text}': '{path}:{error.lineno}' is not JSON: {error.msg}.") from error
    if not isinstance(data, dict):
        raise TargetError(f"target '{text}': '{path}' holds a {type(data).__name__}, not the object of a config.")
    return ConfigFile(text, path, data)


def is_pretrained(model: nn.Module) -> bool:
    """Whether a model is one of transformers, which ties weights and names them in files by its own rules."""
    return hasattr(model, "all_tied_weights_keys") and hasattr(model, "save_pretrained")


def _need_transformers(text: str) -> None:
    if importlib.util.find_spec("transformers") is None:
        raise TargetError(
            f"target '{text}': Hugging Face configs need transformers. Install the extra: pip install 'firstlight[hf]'."
        )


def _dtype(given: Any) -> torch.dtype | None:
    dtype: torch.dtype | None = getattr(torch, given) if isinstance(given, str) else given
    return dtype


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers from logging advice on configs; what is wrong with one is raised."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


@contextlib.contextmanager
def _one_line(text: str, doing: str) -> Iterator[None]:
    try:
        yield
    except TargetError:
        raise
    except Exception as error:
        what = " ".join(str(error).split()) or "no message"
        raise TargetError(f"target '{text}': {doing} raised {type(error).__name__}: {what}") from error
