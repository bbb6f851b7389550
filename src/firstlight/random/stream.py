"""From (seed, name) to the key of a stream. docs/stream.md, section 1."""

import hashlib

import torch

from firstlight.errors import OptionError

STREAM_VERSION = 1
SEED_LIMIT = 2**64


def key(seed: int, name: str) -> int:
    """Return the 64-bit Philox key of tensor `name` under `seed`.

    The key is BLAKE2b with an 8-byte digest, personalised with the stream version, of the seed (8 bytes, little-endian)
    followed by the name in UTF-8.

    Args:
        seed: 0 <= seed < 2**64.
        name: the full name of the logical tensor; tied names share the first one.

    Returns:
        An integer below 2**64.

    Raises:
        OptionError: if the seed is not an integer in range.

    Example:
        >>> key(0, "fc.weight") == key(0, "fc.weight"), key(0, "fc.weight") == key(1, "fc.weight")
        (True, False)
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < SEED_LIMIT:
        raise OptionError(f"seed = {seed!r}, must be an integer with 0 <= seed < 2**64. Nothing was written.")
    person = f"firstlight-{STREAM_VERSION}".encode()
    message = seed.to_bytes(8, "little") + name.encode()
    return int.from_bytes(hashlib.blake2b(message, digest_size=8, person=person).digest(), "little")


def fresh_seed(generator: torch.Generator | None = None) -> int:
    """Draw a 64-bit seed from `generator`, or from torch's default CPU generator, which `torch.manual_seed` governs."""
    device = generator.device if generator is not None else torch.device("cpu")
    draw = torch.empty((), dtype=torch.int64, device=device)
    return int(draw.random_(-(2**63), None, generator=generator).item()) % SEED_LIMIT
