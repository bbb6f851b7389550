"""Networks of the second zoo that read in order: text, or the rows of a picture."""
# ruff: noqa: D101, D102 (the names say what they are)

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from zoo_models import CONTEXT, VOCABULARY


def causal(length: int, device: torch.device) -> Tensor:
    """Return the mask of what lies ahead."""
    return torch.triu(torch.ones(length, length, dtype=torch.bool, device=device), diagonal=1)


class PostNormEncoder(nn.Module):
    """A language model of nn.TransformerEncoder as it is by default: post-norm, ReLU."""

    def __init__(self, dim: int, depth: int) -> None:
        super().__init__()
        self.embed, self.pos = nn.Embedding(VOCABULARY, dim), nn.Embedding(CONTEXT, dim)
        layer = nn.TransformerEncoderLayer(dim, 4, 2 * dim, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.decoder = nn.Linear(dim, VOCABULARY)

    def forward(self, src: Tensor) -> Tensor:
        x = self.embed(src) * math.sqrt(self.embed.embedding_dim) + self.pos(
            torch.arange(src.size(1), device=src.device)
        )
        return self.decoder(self.encoder(x, mask=causal(src.size(1), src.device)))


class EncoderDecoder(nn.Module):
    def __init__(self, dim: int, depth: int) -> None:
        super().__init__()
        self.src, self.tgt = nn.Embedding(VOCABULARY, dim), nn.Embedding(VOCABULARY, dim)
        self.pos = nn.Parameter(torch.randn(CONTEXT, dim) * 0.02)
        self.transformer = nn.Transformer(dim, 4, depth, depth, 2 * dim, dropout=0.0, batch_first=True, norm_first=True)
        self.generator = nn.Linear(dim, VOCABULARY)

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        n = tgt.size(1)
        out = self.transformer(
            self.src(src) + self.pos[: src.size(1)], self.tgt(tgt) + self.pos[:n], tgt_mask=causal(n, tgt.device)
        )
        return self.generator(out)


class EinsumAttention(nn.Module):
    """Heads as an axis of the weights, and positions as ALiBi's slopes or by rotation."""

    def __init__(self, dim: int, heads: int, position: str) -> None:
        super().__init__()
        head = dim // heads
        self.wq, self.wk, self.wv = (nn.Parameter(torch.randn(heads, dim, head) * dim**-0.5) for _ in range(3))
        self.wo = nn.Parameter(torch.randn(heads, head, dim) * dim**-0.5)
        self.position = position
        self.register_buffer("slopes", 2.0 ** (-8 * torch.arange(1, heads + 1) / heads))
        self.register_buffer("freqs", 100.0 ** (-torch.arange(0, head, 2) / head))

    def rotate(self, x: Tensor) -> Tensor:
        angle = torch.arange(x.size(-2), device=x.device)[:, None] * self.freqs
        a, b = x[..., ::2], x[..., 1::2]
        return torch.stack([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1).flatten(-2)

    def forward(self, x: Tensor) -> Tensor:
        q = torch.einsum("btd,hde->bhte", x, self.wq)
        k = torch.einsum("btd,hde->bhte", x, self.wk)
        v = torch.einsum("btd,hde->bhte", x, self.wv)
        if self.position == "rotary":
            q, k = self.rotate(q), self.rotate(k)
        scores = torch.einsum("bhqe,bhke->bhqk", q, k) / q.size(-1) ** 0.5
        t = torch.arange(x.size(1), device=x.device)
        if self.position == "alibi":
            scores = scores - self.slopes[:, None, None] * (t[:, None] - t[None]).abs()
        scores = scores.masked_fill(t[None] > t[:, None], -torch.inf)
        return torch.einsum("bhqk,bhke,hed->bqd", scores.softmax(-1), v, self.wo)


class RMSNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class LinearAttention(nn.Module):
    """Causal attention by cumulative sums, with elu + 1 as the feature map."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.to_out, self.heads = nn.Linear(dim, dim), heads

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = (f(x).view(b, t, self.heads, -1) for f in (self.to_q, self.to_k, self.to_v))
        q, k = F.elu(q) + 1, F.elu(k) + 1
        state = torch.einsum("bthe,bthf->bthef", k, v).cumsum(1)
        norm = torch.einsum("bthe,bthe->bth", q, k.cumsum(1)).unsqueeze(-1)
        return self.to_out((torch.einsum("bthe,bthef->bthf", q, state) / (norm + 1e-6)).reshape(b, t, d))


class TimeMix(nn.Module):
    """RWKV's, its decay and bonus learned, run in a loop."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.time_decay, self.time_first = nn.Parameter(torch.linspace(-3, 1, dim)), nn.Parameter(torch.zeros(dim))
        self.time_mix_k, self.time_mix_v = nn.Parameter(torch.full((dim,), 0.5)), nn.Parameter(torch.full((dim,), 0.5))
        self.key, self.value, self.receptance, self.output = (nn.Linear(dim, dim, bias=False) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        last = F.pad(x, (0, 0, 1, -1))
        k = self.key(x * self.time_mix_k + last * (1 - self.time_mix_k)).clamp(max=20).exp()
        v = self.value(x * self.time_mix_v + last * (1 - self.time_mix_v))
        r = torch.sigmoid(self.receptance(x))
        top = bottom = torch.zeros_like(x[:, 0])
        w, out = torch.exp(-torch.exp(self.time_decay)), []
        for t in range(x.size(1)):
            now = torch.exp(self.time_first) * k[:, t]
            out.append((top + now * v[:, t]) / (bottom + now + 1e-6))
            top, bottom = w * top + k[:, t] * v[:, t], w * bottom + k[:, t]
        return self.output(r * torch.stack(out, 1))


class SelectiveSSM(nn.Module):
    """Mamba's block: a short causal convolution, a scan with steps that depend on the input, a gate."""

    def __init__(self, dim: int, states: int = 4) -> None:
        super().__init__()
        self.in_proj, self.out_proj = nn.Linear(dim, 4 * dim, bias=False), nn.Linear(2 * dim, dim, bias=False)
        self.conv1d = nn.Conv1d(2 * dim, 2 * dim, 3, groups=2 * dim, padding=2)
        self.x_proj, self.dt_proj = nn.Linear(2 * dim, 2 * states + 4, bias=False), nn.Linear(4, 2 * dim)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, states + 1).repeat(2 * dim, 1)))
        self.D, self.states = nn.Parameter(torch.ones(2 * dim)), states

    def forward(self, x: Tensor) -> Tensor:
        t = x.size(1)
        u, z = self.in_proj(x).chunk(2, -1)
        u = F.silu(self.conv1d(u.transpose(1, 2))[..., :t].transpose(1, 2))
        dt, B, C = self.x_proj(u).split([4, self.states, self.states], -1)
        dt, A = F.softplus(self.dt_proj(dt)), -torch.exp(self.A_log)
        h, ys = torch.zeros_like(u[:, 0, :, None] * A), []
        for i in range(t):
            h = torch.exp(dt[:, i, :, None] * A) * h + (dt[:, i] * u[:, i])[..., None] * B[:, i, None]
            ys.append((h * C[:, i, None]).sum(-1))
        return self.out_proj((torch.stack(ys, 1) + self.D * u) * F.silu(z))


class FourierMix(nn.Module):
    """FNet's mixing, without parameters."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft2(x.float()).real


class Blocks(nn.Module):
    """x + mix(norm(x)), x + mlp(norm(x)), over text (causal mixes) or the rows of a picture."""

    def __init__(
        self, dim: int, mixes: list[nn.Module], norm: type[nn.Module] = nn.LayerNorm, text: bool = True
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, dim) if text else nn.Linear(8, dim)
        self.mixes = nn.ModuleList(mixes)
        self.ln1, self.ln2 = (nn.ModuleList([norm(dim) for _ in mixes]) for _ in range(2))
        self.mlps = nn.ModuleList(
            [nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)) for _ in mixes]
        )
        self.ln_f, self.head, self.text = norm(dim), nn.Linear(dim, VOCABULARY if text else 10, bias=False), text

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x if self.text else x.squeeze(1))
        for mix, mlp, a, b in zip(self.mixes, self.mlps, self.ln1, self.ln2, strict=True):
            x = x + mix(a(x))
            x = x + mlp(b(x))
        x = self.ln_f(x)
        return self.head(x if self.text else x.mean(1))


class TemporalBlock(nn.Module):
    """Bai et al.'s: two weight-normed causal convolutions, a ReLU after the sum."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = weight_norm(nn.Conv1d(channels, channels, 3, padding=2 * dilation, dilation=dilation))
        self.conv2 = weight_norm(nn.Conv1d(channels, channels, 3, padding=2 * dilation, dilation=dilation))
        self.chomp = 2 * dilation

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv1(x)[:, :, : -self.chomp])
        y = F.relu(self.conv2(y)[:, :, : -self.chomp])
        return F.relu(x + y)


class TCN(nn.Module):
    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(VOCABULARY, channels), nn.Linear(channels, VOCABULARY)
        self.network = nn.Sequential(*[TemporalBlock(channels, 2**i) for i in range(levels)])

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.network(self.embed(x).transpose(1, 2)).transpose(1, 2))


class WaveNet(nn.Module):
    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, channels)
        self.filters = nn.ModuleList([nn.Conv1d(channels, channels, 2, dilation=2**i) for i in range(levels)])
        self.gates = nn.ModuleList([nn.Conv1d(channels, channels, 2, dilation=2**i) for i in range(levels)])
        self.residual = nn.ModuleList([nn.Conv1d(channels, channels, 1) for _ in range(levels)])
        self.skip = nn.ModuleList([nn.Conv1d(channels, channels, 1) for _ in range(levels)])
        self.end1, self.end2 = nn.Conv1d(channels, channels, 1), nn.Conv1d(channels, VOCABULARY, 1)

    def forward(self, x: Tensor) -> Tensor:
        x, total = self.embed(x).transpose(1, 2), 0
        for i, (f, g, r, s) in enumerate(zip(self.filters, self.gates, self.residual, self.skip, strict=True)):
            padded = F.pad(x, (2**i, 0))
            z = torch.tanh(f(padded)) * torch.sigmoid(g(padded))
            x, total = x + r(z), total + s(z)
        return self.end2(F.relu(self.end1(F.relu(total)))).transpose(1, 2)


class BiLSTM(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, hidden, num_layers=1, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        _, (h, _) = self.lstm(x.squeeze(1))
        return self.fc(torch.cat([h[0], h[1]], dim=1))


class GRUCells(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.embed, self.cell, self.out = (
            nn.Embedding(VOCABULARY, 24),
            nn.GRUCell(24, hidden),
            nn.Linear(hidden, VOCABULARY),
        )

    def forward(self, x: Tensor) -> Tensor:
        e, h, out = self.embed(x), x.new_zeros(x.size(0), self.cell.hidden_size, dtype=torch.float32), []
        for t in range(x.size(1)):
            h = self.cell(e[:, t], h)
            out.append(self.out(h))
        return torch.stack(out, dim=1)


class HandLSTM(nn.Module):
    """One linear layer over [x, h] makes all four gates."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.gates, self.out, self.hidden = nn.Linear(inputs + hidden, 4 * hidden), nn.Linear(hidden, 10), hidden

    def forward(self, x: Tensor) -> Tensor:
        x = x.squeeze(1)
        h = c = x.new_zeros(x.size(0), self.hidden)
        for t in range(x.size(1)):
            i, f, g, o = self.gates(torch.cat([x[:, t], h], dim=1)).chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return self.out(h)


class AttentiveSeq2Seq(nn.Module):
    """Bahdanau's: a GRU encoder, and a decoder of cells that look back at it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.embed, self.encoder = nn.Embedding(VOCABULARY, dim), nn.GRU(dim, dim, batch_first=True)
        self.cell, self.wa, self.ua = nn.GRUCell(2 * dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.va, self.out = nn.Linear(dim, 1, bias=False), nn.Linear(2 * dim, VOCABULARY)

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        memory, h = self.encoder(self.embed(src))
        h, out, e = h[-1], [], self.embed(tgt)
        for t in range(tgt.size(1)):
            scores = self.va(torch.tanh(self.wa(h).unsqueeze(1) + self.ua(memory)))
            context = (F.softmax(scores, dim=1) * memory).sum(dim=1)
            h = self.cell(torch.cat([e[:, t], context], -1), h)
            out.append(self.out(torch.cat([h, context], -1)))
        return torch.stack(out, 1)
