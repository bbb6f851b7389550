"""assert_healthy: silent on a healthy start, and a failure that says what is wrong, where, and what mends it."""

import pytest
import torch
from torch import Tensor, nn

import firstlight as fl
from firstlight.errors import DataError, OptionError

X = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
Y = torch.randint(3, (64,), generator=torch.Generator().manual_seed(1))


def net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))


def zeros() -> nn.Sequential:
    model = net()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def cross_entropy(output: Tensor) -> Tensor:
    return nn.functional.cross_entropy(output, Y)


def test_a_healthy_start_passes_with_a_loss_of_the_output_or_with_a_target() -> None:
    assert fl.testing.assert_healthy(net(), X, cross_entropy).healthy
    assert fl.testing.assert_healthy(net(), X, target=Y).healthy
    assert fl.testing.assert_healthy(net(), X, nn.CrossEntropyLoss(), target=Y).healthy


def test_zeros_fail_with_layer_cause_and_remedy() -> None:
    with pytest.raises(AssertionError, match="start of Sequential is not healthy") as caught:
        fl.testing.assert_healthy(zeros(), X, cross_entropy)
    for words in ("error: exchangeable-units in 0", "evidence: ", "cause: ", "remedy: "):
        assert words in str(caught.value)


def test_allowed_kinds_do_not_count() -> None:
    kinds = {finding.kind for finding in fl.diagnose(zeros(), X, target=Y).findings}
    assert fl.testing.assert_healthy(zeros(), X, target=Y, allow=kinds).findings
    with pytest.raises(AssertionError, match="exchangeable-units"):
        fl.testing.assert_healthy(zeros(), X, target=Y, allow=kinds - {"exchangeable-units"})


def test_the_model_is_left_as_it_was_also_on_failure() -> None:
    model = zeros().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    with pytest.raises(AssertionError, match="not healthy"):
        fl.testing.assert_healthy(model, X, target=Y)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(not module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_wrong_options_are_refused_before_anything_runs() -> None:
    with pytest.raises(OptionError, match=r"fail_on='errors' is not a severity.*Did you mean 'error'"):
        fl.testing.assert_healthy(net(), X, target=Y, fail_on="errors")
    with pytest.raises(OptionError, match=r"'dead-unit' is no kind.*Did you mean 'dead-units'"):
        fl.testing.assert_healthy(net(), X, target=Y, allow=["dead-unit"])
    with pytest.raises(OptionError, match="a text alone"):
        fl.testing.assert_healthy(net(), X, target=Y, allow="dead-units")
    with pytest.raises(DataError, match="without elements"):
        fl.testing.assert_healthy(net(), X[:0], target=Y[:0])
