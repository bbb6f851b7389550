"""What a tensor is for, read from the operators that use it: modules that no one has seen, written as people write them."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graph_models import Forward, Head, X, attend, fans, seen, slices


@pytest.mark.parametrize(
    ("forward", "shape", "expected"),
    [
        (lambda m, x: F.linear(x, m.w), (6, 8), ("weight", 8, 6, "")),
        (lambda m, x: x @ m.w, (8, 6), ("weight", 8, 6, "io")),
        (lambda m, x: x @ m.w.t(), (6, 8), ("weight", 8, 6, "")),
        (lambda m, x: torch.einsum("bti,oi->bto", x, m.w), (6, 8), ("weight", 8, 6, "")),
        (lambda m, x: torch.einsum("bti,ihd->bthd", x, m.w).flatten(2), (8, 2, 3), ("weight", 8, 6, "ioo")),
        (lambda m, x: torch.tensordot(x, m.w, dims=([2], [0])), (8, 6), ("weight", 8, 6, "io")),
        (lambda m, x: torch.addmm(torch.zeros(6), x.flatten(0, 1), m.w), (8, 6), ("weight", 8, 6, "io")),
        (lambda m, x: F.conv1d(x.mT, m.w).mT, (6, 8, 1), ("weight", 8, 6, "")),
        (lambda m, x: F.linear(x, m.w.reshape(6, 8)), (3, 2, 8), ("weight", 8, 6, "ooi")),
        (lambda m, x: F.linear(x, m.w.permute(1, 0).contiguous()), (8, 6), ("weight", 8, 6, "io")),
    ],
)
def test_a_product_is_read_however_it_is_written(forward: Any, shape: tuple[int, ...], expected: Any) -> None:
    assert fans(seen(Head(Forward(forward, w=shape), 6), X)["0.w"]) == expected


@pytest.mark.parametrize(
    ("forward", "shape", "example", "layout"),
    [
        (lambda m, x: torch.einsum("eti,eio->eto", x, m.w), (4, 8, 6), (4, 5, 8), "bio"),
        (lambda m, x: torch.einsum("eti,eoi->eto", x, m.w), (4, 6, 8), (4, 5, 8), "boi"),
        (lambda m, x: torch.bmm(x, m.w), (4, 8, 6), (4, 5, 8), "bio"),
        (lambda m, x: torch.bmm(x, m.w.mT), (4, 6, 8), (4, 5, 8), "boi"),
        (lambda m, x: torch.baddbmm(torch.zeros(4, 1, 6), x, m.w), (4, 8, 6), (4, 5, 8), "bio"),
        (lambda m, x: torch.stack([x[e] @ m.w[e] for e in range(4)]), (4, 8, 6), (4, 5, 8), "bio"),
        (lambda m, x: torch.einsum("tei,ieo->teo", x, m.w), (8, 4, 6), (5, 4, 8), "ibo"),
    ],
)
def test_several_weights_in_one_tensor_have_the_fans_of_one(
    forward: Any, shape: Any, example: tuple[int, ...], layout: str
) -> None:
    model = Head(Forward(forward, w=shape), 6)
    assert fans(seen(model, torch.randn(example))["0.w"]) == ("weight", 8, 6, layout)


def test_experts_chosen_by_the_input_have_the_fans_of_one() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        chosen = m.router(x).argmax(-1)
        return torch.einsum("bti,btio->bto", x, m.w[chosen])

    infos = seen(Head(Forward(forward, w=(4, 8, 6), router=nn.Linear(8, 4)), 6), X)
    assert fans(infos["0.w"]) == ("weight", 8, 6, "bio")


FUSED: dict[str, tuple[Any, int]] = {
    "split": (lambda m, x: attend(*m.qkv(x).split(8, -1)), 24),
    "chunk": (lambda m, x: attend(*m.qkv(x).chunk(3, -1)), 24),
    "slices": (lambda m, x: attend(m.qkv(x)[..., :8], m.qkv(x)[..., 8:16], m.qkv(x)[..., 16:]), 24),
    "unbind": (
        lambda m, x: attend(*m.qkv(x).reshape(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)).mT.flatten(2).mT,
        24,
    ),
    "sdpa": (lambda m, x: F.scaled_dot_product_attention(*m.qkv(x).split(8, -1)), 24),
}


@pytest.mark.parametrize("way", FUSED)
def test_fused_projections_of_attention_are_named_slices(way: str) -> None:
    forward, size = FUSED[way]
    info = seen(Forward(forward, qkv=nn.Linear(8, size)), X)["qkv.weight"]
    assert slices(info) == [("query", 0, 8, 0, 8, 8), ("key", 8, 16, 0, 8, 8), ("value", 16, 24, 0, 8, 8)]
    assert (info.fan_in, info.fan_out, info.activation) == (8, 8, "linear")


def test_grouped_queries_make_slices_of_unequal_size() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        q, k, v = m.qkv(x).split([8, 4, 4], -1)
        q, k, v = (t.unflatten(-1, (-1, 4)).transpose(1, 2) for t in (q, k, v))
        k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
        return attend(q, k, v).transpose(1, 2).flatten(2)

    info = seen(Forward(forward, qkv=nn.Linear(8, 16)), X)["qkv.weight"]
    assert slices(info) == [("query", 0, 8, 0, 8, 8), ("key", 8, 12, 0, 8, 4), ("value", 12, 16, 0, 8, 4)]


def test_projections_that_interleave_by_head_have_the_fans_of_one() -> None:
    def forward(m: Any, x: Tensor) -> Any:  # head by head q, k, v, as GPT-NeoX stores them
        return attend(*m.qkv(x).view(2, 5, 2, 12).chunk(3, -1)).flatten(2)

    info = seen(Forward(forward, qkv=nn.Linear(8, 24)), X)["qkv.weight"]
    assert (info.fan_in, info.fan_out) == (8, 8)
    assert slices(info) == [
        (word + number, 12 * head + 4 * place, 12 * head + 4 * place + 4, 0, 8, 8)
        for head, number in enumerate(("", "2"))
        for place, word in enumerate(("query", "key", "value"))
    ]
    assert [piece.part for piece in info.slices] == ["query", "key", "value"] * 2


@pytest.mark.parametrize(
    ("forward", "names"),
    [
        (lambda m, x: m.down(F.silu(m.fused(x).chunk(2, -1)[0]) * m.fused(x).chunk(2, -1)[1]), None),
        (lambda m, x: (lambda g, u: m.down(F.silu(g) * u))(*m.fused(x).chunk(2, -1)), ("gate", "up")),
        (lambda m, x: (lambda u, g: m.down(u * F.gelu(g)))(*m.fused(x).chunk(2, -1)), ("up", "gate")),
        (lambda m, x: m.down(F.glu(m.fused(x))), ("up", "gate")),
    ],
)
def test_fused_gate_and_up_are_slices(forward: Any, names: tuple[str, str] | None) -> None:
    infos = seen(Head(Forward(forward, fused=nn.Linear(8, 24), down=nn.Linear(12, 8)), 8), X)
    assert [(p.start, p.stop, p.fan_in, p.fan_out) for p in infos["0.fused.weight"].slices] == [
        (0, 12, 8, 12),
        (12, 24, 8, 12),
    ]
    if names is not None:
        assert tuple(p.name for p in infos["0.fused.weight"].slices) == names
        assert infos["0.down.weight"].part == "down"


@pytest.mark.parametrize("bias", [True, False])
def test_torch_attention_packed_and_separate(bias: bool) -> None:
    packed = nn.MultiheadAttention(8, 2, bias=bias, batch_first=True)
    model = Head(Forward(lambda m, x: m.mha(x, x, x, need_weights=False)[0], mha=packed), 8)
    infos = seen(model, X)
    three = [("query", 0, 8, 0, 8, 8), ("key", 8, 16, 0, 8, 8), ("value", 16, 24, 0, 8, 8)]
    assert slices(infos["0.mha.in_proj_weight"]) == three
    assert infos["0.mha.out_proj.weight"].part == "attention-out"
    cross = Forward(lambda m, x, y: m.head(m.mha(x, y, y)[0]), mha=packed, head=nn.Linear(8, 2))
    assert slices(seen(cross, X, torch.randn(2, 3, 8))["mha.in_proj_weight"]) == three
    apart = nn.MultiheadAttention(8, 2, bias=bias, kdim=6, vdim=4, batch_first=True)
    wide = Forward(lambda m, x, k, v: m.head(m.mha(x, k, v)[0]), mha=apart, head=nn.Linear(8, 2))
    parts = seen(wide, X, X[..., :6], X[..., :4])
    found = [(parts[f"mha.{w}_proj_weight"].part, parts[f"mha.{w}_proj_weight"].fan_in) for w in "qkv"]
    assert found == [("query", 8), ("key", 6), ("value", 4)]


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_layers_are_read_by_gate(kind: Any, gates: int) -> None:
    infos = seen(Head(Forward(lambda m, x: m.cell(x)[0], cell=kind(8, 12, 2, batch_first=True)), 12), X)
    first, recurrent = infos["0.cell.weight_ih_l0"], infos["0.cell.weight_hh_l1"]
    assert (first.role, first.fan_in, first.fan_out) == ("weight", 8, 12)
    assert (recurrent.role, recurrent.fan_in, recurrent.fan_out) == ("recurrent-weight", 12, 12)
    assert len(first.slices) == (gates if gates > 1 else 0)


def test_bilinear_layers_sum_over_pairs() -> None:
    infos = seen(Head(Forward(lambda m, x: m.b(x, x[..., :3]), b=nn.Bilinear(8, 3, 6)), 6), X)
    assert fans(infos["0.b.weight"]) == ("weight", 24, 6, "")


def test_an_embedding_used_as_the_output_layer_is_one_tensor_that_says_so() -> None:
    def forward(m: Any, ids: Tensor) -> Any:
        return F.linear(torch.tanh(m.fc(m.tokens(ids))), m.tokens.weight)

    infos = seen(
        Forward(forward, tokens=nn.Embedding(50, 8, padding_idx=0), fc=nn.Linear(8, 8)), torch.zeros(2, 5).long()
    )
    tokens = infos["tokens.weight"]
    assert (tokens.role, tokens.fan_in, tokens.fan_out, tokens.tied_output, tokens.padding_idx) == (
        "embedding", 1, 8, True, 0,
    )  # fmt: skip
    assert infos["fc.weight"].role == "weight"


def test_tables_and_tokens_are_told_from_weights() -> None:
    def forward(m: Any, ids: Tensor) -> Any:
        x = m.words(ids) + m.places(torch.arange(5)) + m.table[:, :5]
        x = torch.cat([m.first.expand(2, -1, -1), x], 1)
        bias = m.relative[torch.arange(6)[:, None] - torch.arange(6)[None] + 5].permute(2, 0, 1)
        scores = torch.softmax(m.q(x) @ m.k(x).mT + bias, -1)
        return m.head((scores @ x) * m.gate + m.shift)

    model = Forward(
        forward, words=nn.Embedding(50, 8), places=nn.Embedding(7, 8), table=(1, 7, 8), first=(1, 1, 8), relative=(11, 1),
        q=nn.Linear(8, 8), k=nn.Linear(8, 8), gate=(8,), shift=(8,), head=nn.Linear(8, 3), spare=(4, 4),
    )  # fmt: skip
    infos = seen(model, torch.zeros(2, 5).long())
    assert {name: info.role for name, info in infos.items() if "." not in name or name.endswith("s.weight")} == {
        "words.weight": "embedding", "places.weight": "position", "table": "position", "first": "token",
        "relative": "position", "gate": "scale", "shift": "bias", "spare": "unused",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("function", "name", "param"),
    [
        (torch.relu, "relu", None),
        (lambda x: x * torch.sigmoid(x), "silu", None),
        (lambda x: x * torch.sigmoid(1.702 * x), "quickgelu", None),
        (lambda x: 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))), "gelu_tanh", None),
        (lambda x: torch.relu(x) ** 2, "relu_squared", None),
        (lambda x: F.leaky_relu(x, 0.3), "leaky_relu", 0.3),
        (lambda x: F.elu(x, 0.5), "elu", 0.5),
        (lambda x: torch.sin(30 * x), "sin", None),
        (torch.sin, "sin", None),
        (F.softsign, "softsign", None),
        (F.mish, "mish", None),
        (F.selu, "selu", None),
        (lambda x: F.layer_norm(x, (8,)).tanh(), "tanh", None),
        (lambda x: 2 * x + 1, "linear", None),
        (lambda x: x.abs().sqrt(), None, None),
    ],
)
def test_activations_are_known_by_what_they_compute(function: Any, name: str | None, param: float | None) -> None:
    infos = seen(Forward(lambda m, x: m.b(function(m.a(x))), a=nn.Linear(8, 8), b=nn.Linear(8, 8)), X)
    assert (infos["a.weight"].activation, infos["a.weight"].activation_param) == (name, param)
    if not (name == "tanh" or name is None):
        assert infos["b.weight"].before == name
