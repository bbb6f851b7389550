"""Matrices of sharded weights, shared out: each is made once, by one process that holds a part, and sent to the others.

Which process makes which follows from the rows and the meshes alone, so all agree without a word. What travels goes
through torch.distributed; nothing else in firstlight communicates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import distributed

from firstlight.apply.parts import Part, common, draw_whole, parts
from firstlight.model.shards import Box, held_by_this_process, holders
from firstlight.recipes.row import PlanRow


@dataclass(frozen=True, slots=True)
class Job:
    """One matrix: what it is, where its values go in this process, and which boxes of it every process holds."""

    row: PlanRow
    part: Part
    memory: torch.Tensor
    boxes: dict[int, list[Box]]


def possible() -> bool:
    """Whether processes can send each other anything."""
    return distributed.is_initialized() and distributed.get_backend() != "fake"


def make_together(pairs: Sequence[tuple[PlanRow, torch.Tensor]], seed: int) -> None:
    """Fill the local shards of tensors whose values need whole matrices. Every process of their meshes must take part."""
    groups: dict[tuple[int, ...], list[Job]] = {}
    for row, tensor in pairs:
        held = holders(tensor)
        ranks = tuple(sorted(held))
        for part in parts(row):
            boxes = {rank: common(part, held[rank]) for rank in ranks}
            groups.setdefault(ranks, []).append(Job(row, part, held_by_this_process(tensor), boxes))
    me = distributed.get_rank()
    for ranks in sorted(groups):  # one order for all, so that no two processes wait for each other
        if me in ranks:
            for turn in _turns(ranks, groups[ranks]):
                _take(turn, me, seed)


def _turns(ranks: tuple[int, ...], jobs: list[Job]) -> list[dict[int, Job]]:
    """Return the jobs in turns, at most one a process: the largest first, each to the least busy process that holds some."""
    queues: dict[int, list[Job]] = {rank: [] for rank in ranks}
    busy = dict.fromkeys(ranks, 0)
    for job in sorted(jobs, key=lambda job: -torch.Size(job.part.shape).numel()):
        maker = min((rank for rank in ranks if job.boxes[rank]), key=lambda rank: (busy[rank], rank), default=None)
        if maker is not None:
            queues[maker].append(job)
            busy[maker] += torch.Size(job.part.shape).numel()
    count = max(map(len, queues.values()))
    return [{rank: queue[i] for rank, queue in queues.items() if i < len(queue)} for i in range(count)]


def _take(turn: dict[int, Job], me: int, seed: int) -> None:
    """Make one's own matrix of a turn, send its parts, and put what the others send where it belongs."""
    awaited = []
    for maker, job in turn.items():
        if maker != me and job.boxes[me]:
            size = sum(torch.Size(box.shape).numel() for box in job.boxes[me]) * job.memory.element_size()
            message = torch.empty(size, dtype=torch.uint8, device=_device(job.memory))
            awaited.append((job, message, distributed.irecv(message, src=maker)))
    sent = []  # messages must live until they have gone
    if me in turn:
        job = turn[me]
        matrix = torch.empty(job.part.shape, dtype=job.memory.dtype)
        draw_whole(job.row, job.part, matrix, seed)
        for box in job.boxes[me]:
            box.view(job.memory).copy_(job.part.cut(matrix, box))
        for rank in (rank for rank in job.boxes if rank != me and job.boxes[rank]):
            message = torch.cat([job.part.cut(matrix, box).reshape(-1) for box in job.boxes[rank]])
            message = message.view(torch.uint8).to(_device(job.memory))
            sent.append((message, distributed.isend(message, dst=rank)))
    for job, message, work in awaited:
        _finish(work)
        values = torch.split(message.view(job.memory.dtype), [torch.Size(box.shape).numel() for box in job.boxes[me]])
        for box, value in zip(job.boxes[me], values, strict=True):
            box.view(job.memory).copy_(value.reshape(box.shape))
    for _, work in sent:
        _finish(work)


def _device(memory: torch.Tensor) -> torch.device:
    """Return where messages live: on the CPU where gloo carries them, else beside the weights."""
    return torch.device("cpu") if "gloo" in distributed.get_backend() else memory.device


def _finish(work: distributed.Work | None) -> None:
    if work is not None:
        work.wait()
