"""`firstlight init`: initialise a model and write its weights as safetensors, as `load_state_dict` takes them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from firstlight.cli.console import emit, say
from firstlight.cli.options import Force, Json, RecipeName, Seed, Target
from firstlight.files import check_writable, write_whole

if TYPE_CHECKING:
    from torch import nn


def command(
    target: Target,
    recipe: RecipeName,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.")],
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Give a model the weights of a recipe and write them to a checkpoint."""
    check_writable(output, force=force)
    from firstlight.model.targets import load
    from firstlight.plan import initialize, plan
    from firstlight.random import STREAM_VERSION

    found = load(target)
    model = found.build()
    if found.init is not None:
        plan(model, found.init)  # not used here, but a word that means nothing is a mistake
    initialize(model, recipe, seed=seed, example=found.example)
    metadata = {"format": "pt", "recipe": recipe, "seed": str(seed), "stream_version": str(STREAM_VERSION)}
    path = write_whole(output, _bytes(model, metadata), force=force)
    count = sum(tensor.numel() for tensor in model.state_dict().values())
    if as_json:
        emit({"path": str(path), "tensors": len(model.state_dict()), "values": count, **metadata})
    else:
        say(f"wrote {count:,} values in {len(model.state_dict())} tensors to {path}")


def _bytes(model: "nn.Module", metadata: dict[str, str]) -> bytes:
    """Return the state dict as safetensors; tied tensors are written under each of their names."""
    from safetensors.torch import save

    state = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
    return save(state, metadata=metadata)
