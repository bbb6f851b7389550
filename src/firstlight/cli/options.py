"""Options that several commands share, so that a word means the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="path/to/file.py:callable, package.module:callable, hf:config.json, or a built-in such as mlp:depth=30,width=128.",
    ),
]
Data = Annotated[
    str,
    typer.Option(
        "--data",
        help="A task of 'firstlight tasks', a .npz file, a folder of pictures or a text file.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Seed = Annotated[int, typer.Option("--seed", help="Of the weights and of the order of batches.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there.")]
Steps = Annotated[int, typer.Option("--steps", help="Steps of each run, at most.")]
RecipeName = Annotated[
    str,
    typer.Option("--recipe", help="A recipe such as he or normal:std=0.02, or the file (.yaml) of a recipe or a plan."),
]
Save = Annotated[Path | None, typer.Option("--save", help="Write the plan as YAML.")]
