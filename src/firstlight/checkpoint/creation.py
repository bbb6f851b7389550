"""`create`: a model's weights written straight to disk. What can be refused is refused before the first byte."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Union

import torch

from firstlight.checkpoint.disk import BLOCK, Blocks, Sink, refused
from firstlight.checkpoint.folder import (
    check_folder,
    is_ready,
    refuse_existing,
    refuse_full,
    refuse_others,
    remove_leftovers,
    same,
)
from firstlight.checkpoint.job import Job, prepare
from firstlight.checkpoint.layout import INDEX, Shard, index, parse_part, parse_size, shards, share
from firstlight.checkpoint.values import Values, boxes
from firstlight.errors import OptionError, did_you_mean
from firstlight.files import write_whole
from firstlight.plan import Plan
from firstlight.random import key
from firstlight.recipes import Recipe

if TYPE_CHECKING:
    from firstlight.checkpoint.dcp import DcpFile

File: TypeAlias = Union[Shard, "DcpFile"]  # one of the two formats
Tell = Callable[[str, int, int, str], None]
Format = Literal["safetensors", "dcp"]

_DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_MEGABYTE = 10**6


@dataclass(frozen=True, slots=True)
class Created:
    """What `create` has done: the files it wrote, those it found finished, and what all parts together hold.

    bytes are the values written now; parameters, tensors and shards are those of the whole checkpoint.
    """

    path: str
    files: tuple[str, ...]
    found: tuple[str, ...]
    bytes: int
    seconds: float
    parameters: int
    tensors: int
    shards: int
    metadata: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`."""
        names = ("path", "files", "found", "bytes", "seconds", "parameters", "tensors", "shards")
        return {name: getattr(self, name) for name in names} | dict(self.metadata)


def create(
    target: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    recipe: str | os.PathLike[str] | Recipe | Plan,
    dtype: str | torch.dtype | None = None,
    seed: int = 0,
    max_shard_size: str | int = "5GB",
    part: str = "1/1",
    resume: bool = False,
    force: bool = False,
    format: Format = "safetensors",  # noqa: A002  # the word that users know
    tell: Tell | None = None,
) -> Created:
    """Write the weights of a model into a folder, tensor by tensor; the model itself is never in memory.

    The values are, bit for bit, those of `initialize(model, recipe, seed=seed)` on the same model built in memory.

    Args:
        target: a Hugging Face config (its path, or its folder), or a TARGET as on the command line.
        output: the folder; made where it is missing. For a Hugging Face model it gets the config too, and
            `from_pretrained(output)` loads it.
        recipe: as for `plan`.
        dtype: of the floating tensors; None leaves the model's choice.
        seed: 0 <= seed < 2**64.
        max_shard_size: bytes of values in a file, or text such as "5GB"; a larger tensor has a file of its own.
        part: 'i/N': only every N-th file from the i-th. N machines write N parts with no communication, and all parts
            together are the checkpoint that one machine writes.
        resume: keep the files of this same checkpoint that are there, and write those that are not.
        force: replace files that are there.
        format: safetensors, or dcp for `torch.distributed.checkpoint.load`.
        tell: called as tell(stage, done, total, label) while files are written, in megabytes.

    Returns:
        What was written and what was there.

    Raises:
        OptionError: if an option is not allowed.
        TargetError, PlanError, DtypeError: if the model cannot be built or planned.
        FileError: if files are in the way, or the disk refuses. Finished files stay, nothing is half-written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     made = create("mlp:depth=2,width=8", folder, recipe="he", dtype="bfloat16")
        >>> made.files, made.tensors
        (('model.safetensors',), 4)
    """
    start = time.perf_counter()
    chosen, limit, share_of = _dtype(dtype), parse_size(max_shard_size), parse_part(part)
    key(seed, "")  # refuses a seed out of range
    _check_format(format)
    folder = check_folder(output)
    job = prepare(target, recipe, chosen, seed, native=format == "dcp")
    files, texts = _layout(job, limit, dcp=format == "dcp")
    mine = share(files, share_of)
    found = _look(folder, files, mine, texts, job, resume=resume, force=force)
    wanted = [file for file in mine if file.name not in found]
    _write(folder, wanted, job, tell or _silent)
    for name, text in texts.items():
        if not same(folder / name, text):
            write_whole(folder / name, text, force=True)
    written = (*(file.name for file in wanted), *texts)
    return _created(folder, job, written, found, sum(file.nbytes for file in wanted), len(files), start)


def _layout(job: Job, limit: int, *, dcp: bool) -> tuple[tuple[File, ...], dict[str, str | bytes]]:
    """Return all files of weights, and the small files beside them."""
    if dcp:
        from firstlight.checkpoint.dcp import (
            METADATA,
            files,
            metadata_of,
        )  # torch takes a while to import what it needs

        boxed = files(job.parts, limit)
        return boxed, {**job.texts, METADATA: metadata_of(boxed, job.metadata)}
    made = shards(job.parts, limit)
    return made, {**job.texts, **({INDEX: index(made)} if len(made) > 1 else {})}


def _look(
    folder: Path,
    files: Sequence[File],
    mine: Sequence[File],
    texts: Mapping[str, str | bytes],
    job: Job,
    *,
    resume: bool,
    force: bool,
) -> tuple[str, ...]:
    """Return the names of files that are finished already, after refusing whatever else is in the way."""
    refuse_others(folder, files)
    found = tuple(file.name for file in mine if resume and _is_ready(folder / file.name, file, job.metadata))
    wanted = [file for file in mine if file.name not in found]
    if not force:
        refuse_existing(folder, wanted, texts)
    refuse_full(folder, wanted)
    if resume and folder.exists():
        remove_leftovers(folder, files)
    return found


def _is_ready(path: Path, file: File, metadata: Mapping[str, str]) -> bool:
    if isinstance(file, Shard):
        return is_ready(path, file, metadata)
    from firstlight.checkpoint import dcp

    return dcp.is_ready(path, file, metadata)


def _write(folder: Path, files: Sequence[File], job: Job, tell: Tell) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise refused(folder, error) from error
    total, done = sum(file.nbytes for file in files), 0
    with Blocks() as blocks:
        for file in files:

            def told(count: int, name: str = file.name) -> None:
                nonlocal done
                done += count
                tell("create", done // _MEGABYTE, total // _MEGABYTE, f"MB  {name}")

            told(0)
            start = file.header(job.metadata)
            with Sink(folder / file.name, len(start) + file.nbytes, blocks) as sink:
                sink.put(start)
                _put(file, sink, job.seed, told)


def _put(file: File, sink: Sink, seed: int, told: Callable[[int], None]) -> None:
    """Append a file's values to its sink."""
    if not isinstance(file, Shard):
        from firstlight.checkpoint import dcp

        return dcp.put(file, sink, seed, told)
    values: tuple[str, Values] | None = None
    for part in file.parts:
        if values is None or values[0] != part.row.name:  # parts of a row stand side by side
            values = (part.row.name, Values(part, seed))
        for offset, extent in boxes(part, BLOCK // part.dtype.itemsize):
            count = part.dtype.itemsize * torch.Size(extent).numel()
            values[1].read(sink.space(count).view(part.dtype).view(extent), offset)
            told(count)
    return None


def _created(
    folder: Path, job: Job, files: tuple[str, ...], found: tuple[str, ...], size: int, count: int, start: float
) -> Created:
    seconds = time.perf_counter() - start
    return Created(str(folder), files, found, size, seconds, job.parameters, len(job.parts), count, job.metadata)


def _dtype(given: str | torch.dtype | None) -> torch.dtype | None:
    if given is None or given in _DTYPES.values():
        return given  # type: ignore[return-value]  # mypy does not narrow by membership
    name = str(given).removeprefix("torch.")
    if name not in _DTYPES:
        raise OptionError(
            f"dtype = '{name}' is not one of {', '.join(_DTYPES)}.{did_you_mean(name, _DTYPES)} Nothing was written."
        )
    return _DTYPES[name]


def _check_format(name: str) -> None:
    if name not in ("safetensors", "dcp"):
        near = did_you_mean(name, ("safetensors", "dcp"))
        raise OptionError(f"format = '{name}', must be safetensors or dcp.{near} Nothing was written.")


def _silent(stage: str, done: int, total: int, label: str) -> None:
    pass
