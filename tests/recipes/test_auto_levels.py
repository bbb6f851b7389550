"""auto on a batch: sizes and levels of outputs, and what lookups, norms at the end of branches and memories start from."""

import pytest
import torch
from torch import Tensor, nn

import firstlight as fl
from firstlight.race import task
from training import chain


def tokens(count: int = 64) -> Tensor:
    """Return rows of tokens below 16, of which 0 is half."""
    drawn = torch.randint(16, (count, 8), generator=torch.Generator().manual_seed(0))
    return torch.where(torch.rand(drawn.shape, generator=torch.Generator().manual_seed(1)) < 0.5, 0, drawn)


def test_logits_start_at_the_stated_size_about_zero_for_each_class() -> None:
    model, inputs = chain(nn.ReLU, 6), task("digits").batch(128)[0]
    with torch.no_grad():
        out = fl.initialize(model, "auto", seed=0, example=inputs)(inputs)
        control = fl.initialize(chain(nn.ReLU, 6), "he", seed=0)(inputs)
    assert float(out.mean(0).abs().max()) < 1e-4
    assert float((out - out.mean(0)).square().mean().sqrt()) == pytest.approx(1.0, rel=0.01)
    assert float(control.mean(0).abs().max()) > 0.1


class Text(nn.Module):
    def __init__(self, kinds: int = 0, tied: bool = False) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(16, 12), nn.Linear(12, 16)
        self.kinds = nn.Embedding(kinds, 12) if kinds else None
        self.norm = nn.LayerNorm(12)
        if tied:
            self.head.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.table(x)
        if self.kinds is not None:
            h = h + self.kinds(torch.zeros_like(x))
        made: Tensor = self.head(self.norm(h))
        return made


@pytest.mark.parametrize("tied", [False, True], ids=["own", "tied"])
def test_a_model_of_tokens_starts_knowing_how_frequent_they_are(tied: bool) -> None:
    given = tokens()
    model = fl.initialize(Text(tied=tied), "auto", seed=0, example=given)
    counts = torch.bincount(given.flatten(), minlength=16) + 1
    with torch.no_grad():
        mean = model(given).flatten(0, 1).mean(0)
    assert torch.allclose(mean.softmax(0), counts / counts.sum(), atol=0.01)
    assert model.head.bias is not None
    assert float(model.head.bias.detach().std()) > 0.3


def test_rebuilt_pictures_start_at_the_mean_picture() -> None:
    given = task("digits").batch(128)[0].flatten(1)
    model = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 64))
    with torch.no_grad():
        mean = fl.initialize(model, "auto", seed=0, example=given)(given).mean(0)
    assert torch.allclose(mean, given.mean(0), atol=1e-3)


def test_kinds_of_tokens_that_are_added_start_at_zero_and_other_tables_do_not() -> None:
    plan = fl.plan(Text(kinds=2), "auto", example=tokens())
    assert plan["kinds.weight"].distribution == "constant"
    assert (plan["table.weight"].std or 0) > 0
    alike = fl.plan(Text(kinds=16), "auto", example=tokens())
    assert (alike["kinds.weight"].std or 0) > 0


def test_a_norm_at_the_end_of_a_branch_sets_its_size_and_the_weight_before_it_is_drawn() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)
            self.norm = nn.BatchNorm1d(8)

        def forward(self, x: Tensor) -> Tensor:
            made: Tensor = x + self.norm(self.two(torch.relu(self.one(x))))
            return made

    model = nn.Sequential(nn.Linear(8, 8), *(Block() for _ in range(4)), nn.Linear(8, 3))
    plan = fl.plan(model, "auto", example=torch.randn(32, 8, generator=torch.Generator().manual_seed(0)))
    assert plan["1.two.weight"].distribution == "orthogonal"
    assert plan["1.norm.weight"].options["value"] == pytest.approx(0.5)  # 1/√4


@pytest.mark.parametrize(("kind", "gates"), [("GRU", 3), ("LSTM", 4)])
def test_gates_that_keep_a_memory_start_open_and_see_inputs_at_their_own_size(kind: str, gates: int) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = getattr(nn, kind)(2, 32, batch_first=True), nn.Linear(32, 3)

        def forward(self, x: Tensor) -> Tensor:
            made: Tensor = self.head(self.rnn(x)[0][:, -1])
            return made

    model = fl.initialize(Model(), "auto", seed=0, example=torch.randn(16, 5, 2))
    biases = model.rnn.bias_ih_l0.unflatten(0, (gates, -1))
    assert sorted(biases.mean(1).tolist()) == [0.0] * (gates - 1) + [1.0]
    assert bool((biases[1] == 1).all())  # update of GRU, forget of LSTM
    assert float(model.rnn.weight_ih_l0.detach().std()) == pytest.approx(2**-0.5, rel=0.1)


def test_a_plain_recurrence_that_keeps_its_memory_lets_half_of_each_input_in() -> None:
    class Model(nn.Module):
        def __init__(self, nonlinearity: str) -> None:
            super().__init__()
            self.rnn = nn.RNN(3, 32, batch_first=True, nonlinearity=nonlinearity)
            self.head = nn.Linear(32, 3)

        def forward(self, x: Tensor) -> Tensor:
            made: Tensor = self.head(self.rnn(x)[0][:, -1])
            return made

    example = torch.randn(16, 5, 3)
    model = fl.initialize(Model("tanh"), "auto", seed=0, example=example)
    weight = model.get_parameter("rnn.weight_ih_l0").detach()
    assert torch.allclose(weight.T @ weight, 0.25 * torch.eye(3), atol=1e-5)
    assert fl.plan(Model("relu"), "auto", example=example)["rnn.weight_ih_l0"].distribution == "uniform"


class Reader(nn.Module):
    """A chain over the vectors of four tokens, with places added or not."""

    def __init__(self, places: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(16, 8)
        self.places = nn.Parameter(torch.zeros(4, 8)) if places else None
        self.chain = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 16))

    def forward(self, x: Tensor) -> Tensor:
        h = self.table(x)
        h = h if self.places is None else h + self.places
        made: Tensor = self.chain(h.flatten(1))
        return made


def test_vectors_that_a_chain_alone_reads_are_large_and_its_first_layer_undoes_it() -> None:
    given = tokens()[:, :4]
    model = fl.initialize(Reader(places=False), "auto", seed=0, example=given)
    assert float(model.table.weight.detach().std()) == pytest.approx(3.0, rel=0.2)  # 5 · 3 / √(2 · 127) is 0.31 of 3
    with torch.no_grad():
        first = model.chain[0](model.table(given).flatten(1))
    assert float(first.square().mean()) == pytest.approx(1.0, rel=1e-3)
    unseen = fl.plan(Reader(places=False), "auto", example=given.to("meta"))  # nothing is measured
    seen = fl.plan(Reader(places=False), "auto", example=given)
    assert unseen["chain.0.weight"].std == pytest.approx(seen["chain.0.weight"].std, rel=0.3)
    assert fl.plan(Reader(places=True), "auto", example=given)["table.weight"].std == 1.0
    assert fl.plan(Text(), "auto", example=tokens())["table.weight"].std == 1.0
