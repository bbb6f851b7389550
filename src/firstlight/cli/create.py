"""`firstlight create`: the weights of a model straight to disk, without the model in memory."""

from pathlib import Path
from typing import Annotated

import typer

from firstlight.cli.console import emit, progress, say
from firstlight.cli.options import Force, Json, RecipeName, Seed


def command(
    target: Annotated[str, typer.Argument(metavar="CONFIG|TARGET", help="A Hugging Face config.json, or a TARGET.")],
    recipe: RecipeName,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="bfloat16, float16, float32, float64; default: the model's own.")
    ] = None,
    max_shard_size: Annotated[str, typer.Option("--max-shard-size", help="Of one file, such as 5GB or 500MB.")] = "5GB",
    part: Annotated[str, typer.Option("--part", help="i/N: only the i-th of N parts, for N machines.")] = "1/1",
    resume: Annotated[bool, typer.Option("--resume", help="Keep finished files and write the others.")] = False,
    format: Annotated[str, typer.Option("--format", help="safetensors or dcp.")] = "safetensors",  # noqa: A002
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a checkpoint that from_pretrained or torch.distributed.checkpoint loads, tensor by tensor."""
    from firstlight.checkpoint import create

    with progress() as tell:
        made = create(
            target,
            output,
            recipe=recipe,
            dtype=dtype,
            seed=seed,
            max_shard_size=max_shard_size,
            part=part,
            resume=resume,
            force=force,
            format=format,  # type: ignore[arg-type]  # checked by create
            tell=tell,
        )
    if as_json:
        emit(made.to_json())
        return
    kept = f", {len(made.found)} were there" if made.found else ""
    say(
        f"wrote {made.bytes / 1e9:.3g} GB in {len(made.files)} files to {made.path} in {made.seconds:.1f} s{kept}; the "
        f"checkpoint has {made.parameters:,} parameters in {made.shards} files of weights"
    )
