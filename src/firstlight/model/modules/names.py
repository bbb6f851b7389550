"""What a tensor is for by the names that libraries use: of its class, its module and itself. No operator is looked at.

These are conventions of Hugging Face, timm and torchvision; modules of torch.nn are known by type, in layers.py.
"""

import re
from typing import Any

from torch import nn

from firstlight.init.fans import fans
from firstlight.model.modules.use import Use
from firstlight.model.shards import class_name
from firstlight.model.tensors import Slice

_PARTS: tuple[tuple[str, str], ...] = (  # the last word of a module's name, or the name of a parameter
    ("query", r"query|q|q_proj|q_lin|wq|q_proj_weight|to_q"),
    ("key", r"key|k|k_proj|k_lin|wk|k_proj_weight|to_k"),
    ("value", r"value|v|v_proj|v_lin|wv|v_proj_weight|to_v"),
    ("attention-out", r"o|o_proj|out_proj|out_lin|wo|to_out|output\.dense|attn\.c_proj"),
    ("gate", r"gate_proj|w1|wi_0"),
    ("up", r"up_proj|w3|wi|wi_1|fc1|c_fc|lin1|up|intermediate\.dense"),
    ("down", r"down_proj|w2|wo|fc2|lin2|down|output\.dense|mlp\.c_proj"),
    ("low-rank-in", r"lora_A(\..*)?"),
    ("low-rank-out", r"lora_B(\..*)?"),
)
_IN_ATTENTION = ("query", "key", "value", "attention-out")
_ATTENTION = re.compile(r"att(entio)?n", re.IGNORECASE)
_POSITION = re.compile(
    r"(^|[._])(pos(ition)?s?([._]?emb(ed(ding)?s?)?)?|embed_positions|wpe|relative_attention_bias)($|[._])"
)
_POSITION_TABLE = re.compile(r"relative_position_bias_table|rel_pos|positional_embedding")
_TOKEN = re.compile(r"(cls|class|mask|dist(illation)?|register|reg)_(token|embedding)s?|query_tokens|latents?")
_STATE = ("A_log", "D", "dt_bias")


def part(owner: str, local: str) -> str:
    """Return what a weight does within attention or a feed-forward layer, by its name, '' when the name does not say.

    >>> part("h.0.self_attn.q_proj", "weight"), part("layers.3.mlp.down_proj", "weight"), part("head", "weight")
    ('query', 'down', '')
    """
    words = owner.split(".")
    own = words[-1] if local in ("weight", "bias") else local
    two = ".".join(words[-2:])
    inside = bool(_ATTENTION.search(".".join(words[:-1]) if local in ("weight", "bias") else owner))
    for name, pattern in _PARTS:
        if (name not in _IN_ATTENTION or inside) and (re.fullmatch(pattern, own) or re.fullmatch(pattern, two)):
            return name
    return ""


def is_position(name: str) -> bool:
    """Whether a tensor's full name says that it is a table of positions."""
    return bool(_POSITION.search(name) or _POSITION_TABLE.search(name))


def is_token(local: str) -> bool:
    """Whether a parameter's own name says that it is a learned token."""
    return bool(_TOKEN.fullmatch(local))


def is_state(module: nn.Module, owner: str, local: str) -> bool:
    """Whether a parameter belongs to a recurrence in time that its module computes, as in Mamba.

    The bias of `dt_proj` sets the lengths of the steps in time; zeros there would make all of them 0.69.
    """
    if local == "bias" and owner.rpartition(".")[2] == "dt_proj":
        return True
    return local in _STATE and any(getattr(module, name, None) is not None for name in ("A_log", "A"))


def described(module: Any, owner: str, local: str, shape: tuple[int, ...]) -> Use | None:
    """Return the use of a parameter of a class that is not of torch.nn, or None where no convention says it."""
    if is_state(module, owner, local):
        return Use("state")
    if is_token(local):
        return Use("token")
    if is_position(f"{owner}.{local}"):
        return Use("position")
    kind = class_name(module)
    if len(shape) == 1 and kind.lower().endswith("norm"):
        return {"weight": Use("norm-scale"), "bias": Use("norm-shift")}.get(local)
    if kind == "Conv1D" and local in ("weight", "bias") and hasattr(module, "nf"):  # of transformers: stored (in, out)
        return Use("weight", shape[0], shape[1], layout="io") if local == "weight" else Use("bias")
    if kind.endswith(("Router", "Gate")) and local == "weight" and len(shape) == 2:
        return Use("weight", shape[1], shape[0], part="router")
    if kind.endswith("Experts"):
        return _experts(module, local, shape)
    return None


def _experts(module: Any, local: str, shape: tuple[int, ...]) -> Use | None:
    """Return the use of several experts' weights in one tensor (experts, out, in), or (experts, in, out)."""
    if local.endswith("bias"):
        return Use("bias")
    if len(shape) != 3 or local not in ("gate_up_proj", "up_proj", "gate_proj", "down_proj"):
        return None
    transposed = bool(getattr(module, "is_transposed", False))
    fan_in, fan_out = fans(shape[1:], transposed=transposed)
    layout = "bio" if transposed else "boi"
    if local != "gate_up_proj":
        return Use("weight", fan_in, fan_out, layout=layout, part=local.removesuffix("_proj"))
    half, axis = fan_out // 2, 2 if transposed else 1
    pair = tuple(Slice(name, i * half, (i + 1) * half, fan_in, half, axis) for i, name in enumerate(("gate", "up")))
    return Use("weight", fan_in, half, pair, layout=layout)
