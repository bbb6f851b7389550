"""torch.distributed.checkpoint: torch's own writer, fed with boxes of values as it asks for them.

Each tensor is announced as shards of at most MOST values, so that no tensor stands in memory whole; torch puts shards
together, or cuts them anew, when a checkpoint is loaded.
"""

import math
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex, TensorProperties
from torch.distributed.checkpoint.planner import SavePlan, TensorWriteData, WriteItem, WriteItemType
from torch.distributed.checkpoint.state_dict_saver import save

from firstlight.checkpoint.stored import Stored
from firstlight.checkpoint.values import MOST, Box, Values, boxes


class _Planner(DefaultSavePlanner):
    """Plans shards of tensors that do not exist, and makes the values of each when the writer wants them."""

    def __init__(self, parts: Sequence[Stored], seed: int, written: Callable[[int], None]) -> None:
        super().__init__(flatten_state_dict=False)
        self._seed, self._tell = seed, written
        self._boxes = {_index(part, box): (part, box) for part in parts for box in _boxes(part)}
        self._values: tuple[str, Values] | None = None
        self._memory = bytearray(max([part.dtype.itemsize for part in parts], default=1) * MOST)

    def create_local_plan(self) -> SavePlan:
        self.plan = SavePlan([_item(index, *found) for index, found in self._boxes.items()])
        return self.plan

    def resolve_data(self, write_item: WriteItem) -> torch.Tensor:
        part, (offset, extent) = self._boxes[write_item.index]
        if self._values is None or self._values[0] != part.row.name:
            self._values = (part.row.name, Values(part, self._seed))
        tensor = self._space(part.dtype, extent)
        self._values[1].read(tensor, offset)
        self._tell(tensor.nbytes)
        return tensor

    def _space(self, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
        """Return a tensor on the one block of memory: the writer holds on to each of them, but has written the last one."""
        count = math.prod(shape)
        if count == 0:
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(self._memory, dtype=dtype, count=count).view(shape)


def write(folder: Path, parts: Sequence[Stored], seed: int, written: Callable[[int], None]) -> None:
    """Write a checkpoint that `torch.distributed.checkpoint.load` reads into a new folder.

    Args:
        folder: is made.
        parts: whole tensors, under the names of the state dict.
        seed: of the values.
        written: told the bytes of each shard when it is made.

    Raises:
        OSError: if the disk refuses.
    """
    writer = FileSystemWriter(folder, thread_count=1, per_thread_copy_ahead=0, overwrite=False)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "torch.distributed is disabled"
            )  # that is meant: no process group is needed
            save({}, storage_writer=writer, planner=_Planner(parts, seed, written), no_dist=True)
    except BaseException as error:
        cause = _system_error(error)
        if cause is not None:
            raise cause from error
        raise


def remove(folder: Path) -> None:
    """Remove a folder that was not finished, if there is one."""
    shutil.rmtree(folder, ignore_errors=True)


def _system_error(error: BaseException) -> OSError | None:
    """Return the error of the system that torch has wrapped, if it is one."""
    for failure in getattr(error, "failures", {}).values():
        if isinstance(failure[0], OSError):
            return failure[0]
    return error if isinstance(error, OSError) else None


def _boxes(part: Stored) -> list[Box]:
    return list(boxes(part, MOST)) or [(part.offset, part.extent)]  # one without values is stored too


def _index(part: Stored, box: Box) -> MetadataIndex:
    return MetadataIndex(part.name, torch.Size(box[0]))


def _item(index: MetadataIndex, part: Stored, box: Box) -> WriteItem:
    chunk = ChunkStorageMetadata(torch.Size(box[0]), torch.Size(box[1]))
    data = TensorWriteData(chunk, TensorProperties(dtype=part.dtype), torch.Size(part.shape))
    return WriteItem(index, WriteItemType.SHARD, tensor_data=data)
