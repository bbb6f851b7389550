"""The pytest plugin, run by pytest in processes of its own: in this one pytester would forget modules that load only once."""

import pytest

pytest_plugins = ["pytester"]
PLUGIN = ("-p", "no:cacheprovider")  # firstlight comes by its entry point
TESTS = """
import torch
from torch import nn

X, Y = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 3

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))

def test_good(assert_healthy):
    assert assert_healthy(net(), X, target=Y).healthy

def test_zeros(assert_healthy):
    model = net()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    assert_healthy(model, X, nn.CrossEntropyLoss(), target=Y)

def test_spare(assert_healthy):
    model = net()
    model[0].spare = nn.Linear(2, 2)
    assert_healthy(model, X, target=Y)
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(TESTS)
    return pytester


@pytest.mark.slow
def test_the_fixture_fails_a_test_with_what_is_wrong(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess(*PLUGIN)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        ["E*AssertionError: the start of Sequential is not healthy*", "E*exchangeable-units in 0*"]
    )
    result.stdout.no_fnmatch_line("*src/firstlight/testing.py*")


@pytest.mark.slow
def test_the_option_and_the_ini_file_say_what_counts(project: pytest.Pytester) -> None:
    project.makeini("[pytest]\nfirstlight_fail_on = info")
    project.runpytest_subprocess(*PLUGIN).assert_outcomes(passed=1, failed=2)
    project.runpytest_subprocess(*PLUGIN, "--firstlight-fail-on=error").assert_outcomes(passed=2, failed=1)


def test_wrong_severities_are_refused_before_any_test(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess(*PLUGIN, "--firstlight-fail-on=fatal")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    project.makeini("[pytest]\nfirstlight_fail_on = fatal")
    result = project.runpytest_subprocess(*PLUGIN)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*firstlight_fail_on = fatal: choose from error, warning, info*"])


def test_the_plugin_loads_no_torch_by_itself(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import sys\ndef test_it():\n    assert 'torch' not in sys.modules\n")
    pytester.runpytest_subprocess(*PLUGIN).assert_outcomes(passed=1)
