"""Examples to run a model on: what a caller gives, without its values, and inputs made up for models that describe theirs."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from firstlight.model.graph import mapped

_TOKENS = (2, 8)  # sequences and tokens of a made-up text


def arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return how a model is called on an example: a mapping as keywords, a tuple or list as positions, else alone.

    >>> arguments((1, 2)), arguments({"x": 1}), arguments("x")
    (((1, 2), {}), ((), {'x': 1}), (('x',), {}))
    """
    if isinstance(example, Mapping):
        return (), dict(example)
    return (tuple(example), {}) if isinstance(example, tuple | list) else ((example,), {})


def on_meta(example: Any) -> Any:
    """Return the example with its tensors on the meta device, floating ones as float32."""

    def bare(tensor: Tensor) -> Tensor:
        dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
        return torch.empty(tensor.shape, dtype=dtype, device="meta")

    return mapped(dict(example) if isinstance(example, Mapping) else example, Tensor, bare)


def made_up(model: nn.Module) -> dict[str, Any] | None:
    """Return an input on the meta device for a model of transformers, by its config; None for any other model."""
    if not any(kind.__module__.startswith("transformers.") for kind in type(model).__mro__):
        return None
    main, config = getattr(model, "main_input_name", None), getattr(model, "config", None)
    if config is None or main not in _MAKERS:
        return None
    made = _MAKERS[main](config)
    if made is None:
        return None
    inputs = {main: made}
    known = signature(model.forward).parameters
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in known:
        inputs["decoder_input_ids"] = _tokens(config)
    # without a cache, transformers looks at the values of the positions for packed sequences, and there are none
    return inputs | ({"use_cache": True} if "use_cache" in known else {})


def _tokens(config: Any) -> Tensor:
    return torch.empty(_TOKENS, dtype=torch.long, device="meta")


def _pictures(config: Any) -> Tensor | None:
    size = getattr(config, "image_size", None)
    height, width = (size, size) if isinstance(size, int) else tuple(size) if size is not None else (224, 224)
    return torch.empty((2, getattr(config, "num_channels", 3), height, width), device="meta")


def _spectrum(config: Any) -> Tensor | None:
    bins, positions = getattr(config, "num_mel_bins", None), getattr(config, "max_source_positions", None)
    return None if bins is None or positions is None else torch.empty((2, bins, 2 * positions), device="meta")


def _sound(config: Any) -> Tensor:
    return torch.empty((2, 16000), device="meta")


_MAKERS = {"input_ids": _tokens, "pixel_values": _pictures, "input_features": _spectrum, "input_values": _sound}
