"""The second zoo: networks that the first does not have, in the forms in which people write them.

    python benchmarks/zoo_foreign.py --out foreign.jsonl --seeds 2  # every row and method; what is in the file is not run again
    python benchmarks/zoo_foreign.py --out foreign.jsonl --summary  # docs/zoo-foreign.md from what is there

Networks are in zoo_foreign_dense.py, _vision.py, _sets.py and _sequences.py; how they are trained is in zoo.py, on what in
zoo_data.py.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import torch
import zoo_foreign_dense as dense
import zoo_foreign_sequences as sequences
import zoo_foreign_sets as sets
import zoo_foreign_vision as vision
from torch import nn
from zoo import main
from zoo_rows import Row


def rows() -> Iterator[Row]:
    """Yield the rows."""
    yield from _dense()
    yield from _vision()
    yield from _sequences()


def _dense() -> Iterator[Row]:
    plain = {
        "plain100-prelu-narrow": partial(dense.stacked, 100, 16, nn.PReLU),
        "wide2048-relu": partial(dense.stacked, 1, 2048, nn.ReLU),
        "hardtanh25": partial(dense.stacked, 25, 40, nn.Hardtanh),
        "logsigmoid12": partial(dense.stacked, 12, 48, nn.LogSigmoid),
        "odd-widths-nobias-relu": partial(dense.of_widths, [61, 37, 53, 29, 43, 31, 47, 23, 41, 19, 37, 17], nn.ReLU, False),
        "one-unit-bottleneck-tanh": partial(dense.of_widths, [48, 48, 1, 48, 48], nn.Tanh),
        "weightnorm12-relu": partial(dense.WeightNormed, 12, 48),
        "maxout8": partial(dense.Maxout, 8, 32),
        "crelu14": partial(dense.ConcatenatedReLU, 14, 32),
        "rezero24-relu": partial(dense.ReZeroMLP, 24, 48),
        "relu2-prenorm10": lambda: _headed(48, *[dense.SquaredReLUBlock(48) for _ in range(10)]),
        "geglu-residual10": lambda: _headed(40, *[dense.GatedBlock(40) for _ in range(10)]),
        "deep-cross6": partial(dense.Cross, 6, 48),
        "equilibrium8": partial(dense.Equilibrium, 64, 8),
        "neural-ode4": partial(dense.NeuralODE, 48, 4),
        "hypernetwork6": partial(dense.HyperNetwork, 6, 24),
        "kan3": lambda: nn.Sequential(nn.Flatten(), dense.KANLayer(64, 24), dense.KANLayer(24, 24), dense.KANLayer(24, 10)),
    }  # fmt: skip
    for name, make in plain.items():
        yield Row(name, "dense", make, loop=name in ("wide2048-relu", "kan3", "weightnorm12-relu"))
    yield Row("two-heads-elu", "dense", partial(dense.TwoHeads, 48), "two answers")
    yield Row("siamese", "dense", partial(dense.Siamese, 64), "pairs")
    yield Row("dlrm", "dense", dense.DLRM, "table")
    yield Row("tied-autoencoder", "autoencoder", partial(dense.TiedAutoencoder, 48, 24), "picture")
    yield Row("vae", "autoencoder", partial(dense.VAE, 64, 12), "variational")
    yield Row("fourier-field", "regression", partial(dense.FourierField, 64), "points", batch=128)
    yield Row("siren-field", "regression", _siren, "points", batch=128)


def _headed(width: int, *blocks: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), *blocks, nn.Linear(width, 10))


def _siren() -> nn.Module:
    widths = [2, 64, 64, 64]
    hidden = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), dense.Sine())]
    return nn.Sequential(*hidden, nn.Linear(64, 1))


def _vision() -> Iterator[Row]:
    v = vision
    nets: dict[str, Callable[[], nn.Module]] = {
        "lenet-tanh": v.LeNet,
        "alexnet-dropout": v.AlexNet,
        "vgg-relu": partial(v.VGG, [8, 8, "M", 12, 12, "M", 16, 16, 16]),
        "vgg-bn": partial(v.VGG, [8, "M", 12, 12, "M", 16, 16], True),
        "densenet": v.DenseNet,
        "inception": v.googlenet,
        "resnext": lambda: v.pooled(12, v.Bottleneck(12, 8, 12), v.Bottleneck(12, 16, 24, 2), v.Bottleneck(24, 16, 24), out=24),
        "mobilenet": lambda: v.pooled(
            8, v.InvertedResidual(8, 8, 1), v.InvertedResidual(8, 12, 2), v.InvertedResidual(12, 12, 1, True), out=12
        ),
        "shufflenet": lambda: v.pooled(16, *[v.ShuffleUnit(16) for _ in range(4)]),
        "convnext": lambda: v.pooled(12, *[v.ConvNeXtBlock(12) for _ in range(4)]),
        "convmixer": partial(v.convmixer, 16, 4),
        "spectral-norm-cnn": partial(v.discriminator, "spectral"),
        "instance-norm-cnn": partial(v.discriminator, "instance"),
        "weight-standardised": partial(v.standardised, 12, 6),
        "swin4": partial(sets.Swin, 16, 4),
        "gcn6": partial(sets.GCN, 6, 16),
        "deepsets": partial(sets.DeepSets, 32),
        "perceiver2": partial(sets.Perceiver, 6, 24, 2),
        "class-token3": partial(sets.ClassToken, 24, 3),
    }  # fmt: skip
    stacked = ("resnext", "mobilenet", "shufflenet", "convnext", "convmixer", "instance-norm-cnn", "gcn6", "deepsets")
    for name, make in nets.items():
        yield Row(name, "vision", make, loop=name not in stacked, batch=16)
    yield Row("gmlp4", "vision", partial(sets.GMLP, 24, 4))
    yield Row("unet-bn-cat", "autoencoder", partial(v.UNetCat, 6), "picture", loop=True, batch=16)


def _sequences() -> Iterator[Row]:
    s, mixed = sequences, sequences.Blocks
    nets: dict[str, Callable[[], nn.Module]] = {
        "post-norm-encoder3": partial(s.PostNormEncoder, 32, 3),
        "alibi-rotary-gpt2": lambda: mixed(32, [s.EinsumAttention(32, 4, p) for p in ("alibi", "rotary")], s.RMSNorm),
        "linear-attention2": lambda: mixed(32, [s.LinearAttention(32, 4) for _ in range(2)]),
        "rwkv2": lambda: mixed(32, [s.TimeMix(32) for _ in range(2)]),
        "mamba2": lambda: mixed(24, [s.SelectiveSSM(24) for _ in range(2)]),
        "tcn4": partial(s.TCN, 32, 4),
        "wavenet4": partial(s.WaveNet, 32, 4),
        "gru-cells": partial(s.GRUCells, 48),
    }
    for name, make in nets.items():
        yield Row(name, "sequence", make, "text", loop=name in ("linear-attention2", "gru-cells"), batch=16)
    yield Row("encoder-decoder2", "sequence", partial(s.EncoderDecoder, 32, 2), "continued", loop=True, batch=16)
    yield Row("attentive-seq2seq", "sequence", partial(s.AttentiveSeq2Seq, 32), "continued", loop=True, batch=16)
    yield Row("fnet4", "sequence", lambda: mixed(32, [s.FourierMix() for _ in range(4)], text=False))
    yield Row("bilstm-rows", "sequence", partial(s.BiLSTM, 32), loop=True)
    yield Row("hand-lstm-rows", "sequence", partial(s.HandLSTM, 8, 32))


if __name__ == "__main__":
    from zoo_foreign_page import write

    torch.set_num_threads(1)
    main(list(rows()), [], write, "foreign.jsonl")
