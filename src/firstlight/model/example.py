"""Examples to run a model on: what a caller gives, without its values, and inputs made up for models that describe theirs."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from firstlight.model.nested import mapped

Pairs = list[tuple[Tensor, Tensor]]  # tensors on the meta device, and their values

_TOKENS = (2, 8)  # sequences and tokens of a made-up text


def arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return how a model is called on an example: a mapping as keywords, a tuple or list as positions, else alone.

    >>> arguments((1, 2)), arguments({"x": 1}), arguments("x")
    (((1, 2), {}), ((), {'x': 1}), (('x',), {}))
    """
    if isinstance(example, Mapping):
        return (), dict(example)
    return (tuple(example), {}) if isinstance(example, tuple | list) else ((example,), {})


def on_meta(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any], Pairs]:
    """Return arguments with their tensors on the meta device, floating ones as float32, and those tensors with their values."""
    pairs: list[tuple[Tensor, Tensor]] = []

    def bare(tensor: Tensor) -> Tensor:
        dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
        made = torch.empty(tensor.shape, dtype=dtype, device="meta")
        if tensor.device.type != "meta":
            pairs.append((made, tensor))
        return made

    return mapped(args, Tensor, bare), mapped(kwargs, Tensor, bare), pairs


def made_up(model: nn.Module) -> list[dict[str, Any]]:
    """Return inputs for a model of transformers by its config, the fullest first; none for any other model.

    Tokens have values, which masks and positions follow from; pictures and sounds are on the meta device.
    """
    if not any(kind.__module__.startswith("transformers.") for kind in type(model).__mro__):
        return []
    main, config = getattr(model, "main_input_name", None), getattr(model, "config", None)
    if config is None or main not in _MAKERS:
        return []
    known = signature(model.forward).parameters
    both = [name for name in ("input_ids", "pixel_values") if name in known and hasattr(config, "vision_config")]
    tries = [_inputs(names, known, config) for names in dict.fromkeys((tuple(dict.fromkeys((main, *both))), (main,)))]
    return [found for found in tries if found is not None]


def _inputs(names: tuple[str, ...], known: Mapping[str, Any], config: Any) -> dict[str, Any] | None:
    inputs = {name: _MAKERS[name](config) for name in names}
    if any(made is None for made in inputs.values()):
        return None
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in known:
        inputs["decoder_input_ids"] = _tokens(config)
    # without a cache, transformers looks at the values of the positions for packed sequences, and there are none
    return inputs | ({"use_cache": True} if "use_cache" in known else {})


def _tokens(config: Any) -> Tensor:
    """Return unlike tokens that mean nothing special: neither padding nor a place for a picture."""
    text = getattr(config, "text_config", None) or config
    size = int(getattr(text, "vocab_size", 0) or 1)
    special = {
        value for part in (config, text) for key, value in vars(part).items() if key.endswith(("_token_id", "_index"))
        and isinstance(value, int)
    }  # fmt: skip
    count = _TOKENS[0] * _TOKENS[1]
    plain = [token for token in range(min(size, count + len(special) + 1)) if token not in special] or [0]
    return torch.tensor([plain[i % len(plain)] for i in range(count)], device="cpu").view(_TOKENS)


def _pictures(config: Any) -> Tensor | None:
    config = getattr(config, "vision_config", None) or config
    size = getattr(config, "image_size", None)
    height, width = (size, size) if isinstance(size, int) else tuple(size) if size is not None else (224, 224)
    return torch.empty((2, getattr(config, "num_channels", 3), height, width), device="meta")


def _spectrum(config: Any) -> Tensor | None:
    bins, positions = getattr(config, "num_mel_bins", None), getattr(config, "max_source_positions", None)
    return None if bins is None or positions is None else torch.empty((2, bins, 2 * positions), device="meta")


def _sound(config: Any) -> Tensor:
    return torch.empty((2, 16000), device="meta")


_MAKERS = {"input_ids": _tokens, "pixel_values": _pictures, "input_features": _spectrum, "input_values": _sound}
