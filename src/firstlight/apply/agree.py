"""Before matrices are made together: all processes of the mesh are there, with the same rows and the same seed.

Without this, a process that does not come, or comes with something else, lets the others wait for its messages. What is
compared goes through the store that torch.distributed keeps for its own arrangements; a process a mesh, the one of least
rank, reads what all have to say and answers. Nothing here touches a tensor.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from firstlight.errors import ProcessError
from firstlight.model.shards import holders
from firstlight.recipes.row import PlanRow

Pairs = Sequence[tuple[PlanRow, torch.Tensor]]
Ranks = tuple[int, ...]

LONGEST = timedelta(minutes=10)  # that a process waits for others to come
_ANSWER = timedelta(seconds=30)  # more, for the answer of one that has come
_GONE = "gone"


def agree(pairs: Pairs, seed: int) -> None:
    """Return once every process of these tensors' meshes has called this with the same rows, tensors and seed.

    Raises:
        ProcessError: in every process that has come, if one has not within the time limit of the process group (at most
            LONGEST), or has come with something else.
    """
    groups: dict[Ranks, list[tuple[PlanRow, torch.Tensor]]] = {}
    for row, tensor in pairs:
        groups.setdefault(tuple(sorted(holders(tensor))), []).append((row, tensor))
    from torch.distributed.distributed_c10d import _get_default_store  # torch has no public name for it

    store: Any = _get_default_store()
    me = distributed.get_rank()
    mine = [ranks for ranks in sorted(groups) if me in ranks and len(ranks) > 1]
    try:
        prefixes = [_prefix(store, ranks, me) for ranks in mine]
        for ranks, prefix in zip(mine, prefixes, strict=True):
            store.set(f"{prefix}/{me}", _said(groups[ranks], seed))
        for ranks, prefix in zip(mine, prefixes, strict=True):
            problem = _collected(store, ranks, prefix) if me == ranks[0] else _answered(store, ranks[0], prefix, me)
            if problem:
                raise _stray(groups[ranks], ranks, problem)
    except distributed.DistNetworkError as error:
        reason = str(error).splitlines()[0]
        raise _stray(groups[mine[0]], mine[0], f"the store of torch.distributed is gone: {reason}.") from error


def _stray(held: Pairs, ranks: Ranks, problem: str) -> ProcessError:
    row = held[0][0]
    more = f" and {len(held) - 1} more need" if len(held) > 1 else " needs"
    return ProcessError(
        f"'{row.name}' {row.shape}{more} whole matrices, which processes {_listed(ranks)} make together, but {problem} Call "
        "apply in every process of the mesh, with the same plan and seed. No parameter was changed."
    )


def _prefix(store: Any, ranks: Ranks, me: int) -> str:
    """Return where the keys of this agreement stand: it is the n-th of these ranks, in each of them."""
    group = f"firstlight/apply/{hashlib.blake2b(repr(ranks).encode(), digest_size=8).hexdigest()}"
    return f"{group}/{store.add(f'{group}/times/{me}', 1)}"


def _said(held: Pairs, seed: int) -> str:
    """Return what must be the same in all processes, in few bytes."""
    words = ("reason", "found_by", "role")
    what = hashlib.blake2b(digest_size=16)
    for row, tensor in held:
        sharded: Any = tensor
        fields = {key: value for key, value in asdict(row).items() if key not in words}
        what.update(repr((fields, sharded.placements, tuple(sharded.device_mesh.shape), str(tensor.dtype))).encode())
    return json.dumps({"seed": seed, "tensors": len(held), "digest": what.hexdigest()})


def _collected(store: Any, ranks: Ranks, prefix: str) -> str:
    """Wait for what all have to say, give them the answer, and return it: what is wrong, or nothing."""
    keys = [f"{prefix}/{rank}" for rank in ranks]
    limit = min(store.timeout, LONGEST)
    there = _came(store, keys, limit)
    if not there:
        missing = tuple(rank for rank, key in zip(ranks, keys, strict=True) if not store.check([key]))
        there = not missing  # the last one came just now
    problem = "" if there else f"{_listed(missing)} did not come within {limit.total_seconds():g} s."
    if there:
        said = [store.get(key).decode() for key in keys]
        problem = next((_difference(ranks, said, i) for i in range(1, len(ranks)) if said[i] != said[0]), "")
    store.set(f"{prefix}/answer", problem)
    return problem


def _answered(store: Any, leader: int, prefix: str, me: int) -> str:
    """Wait for the answer, and return it."""
    limit = min(store.timeout, LONGEST)
    if not _came(store, [f"{prefix}/{leader}"], limit):
        store.set(f"{prefix}/{me}", _GONE)  # should it come later, it must not wait for this process
        return f"{leader} did not come within {limit.total_seconds():g} s."
    if not _came(store, [f"{prefix}/answer"], limit + _ANSWER):
        store.set(f"{prefix}/{me}", _GONE)
        return f"{leader} has not answered within {(limit + _ANSWER).total_seconds():g} s."
    answer: str = store.get(f"{prefix}/answer").decode()
    return answer


def _came(store: Any, keys: list[str], limit: timedelta) -> bool:
    """Look for the keys until all are there, or the time is over; kinds of stores differ in what their wait raises."""
    end, pause = time.monotonic() + limit.total_seconds(), 0.001
    while not store.check(keys):
        if time.monotonic() > end:
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
    return True


def _difference(ranks: Ranks, said: Sequence[str], other: int) -> str:
    """Return in which way a process differs from the first."""
    if _GONE in (said[0], said[other]):
        gone = ranks[0] if said[0] == _GONE else ranks[other]
        return f"{gone} came first and has given up waiting."
    first, second = json.loads(said[0]), json.loads(said[other])
    if first["seed"] != second["seed"]:
        return f"{ranks[0]} has seed {first['seed']} and {ranks[other]} has seed {second['seed']}."
    if first["tensors"] != second["tensors"]:
        return f"{ranks[0]} has {first['tensors']} such tensors and {ranks[other]} has {second['tensors']}."
    return f"{ranks[other]} has another plan, or other placements, than {ranks[0]}."


def _listed(ranks: Ranks) -> str:
    """Return ranks in words, the first eight of many."""
    return ", ".join(map(str, ranks[:8])) + (f" … ({len(ranks)})" if len(ranks) > 8 else "")
