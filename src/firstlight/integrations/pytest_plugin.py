"""The pytest plugin: a fixture `assert_healthy`, and how strict it is by option or ini file. Loads torch only when used."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from firstlight.diagnose import Diagnosis

SEVERITIES = ("error", "warning", "info")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--firstlight-fail-on` and the ini key `firstlight_fail_on`."""
    parser.addini(
        "firstlight_fail_on", "mildest finding that fails assert_healthy: error, warning, info", default="error"
    )
    parser.getgroup("firstlight").addoption(
        "--firstlight-fail-on",
        choices=SEVERITIES,
        help="mildest finding that fails assert_healthy; default: the ini file's firstlight_fail_on, or error",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse an ini file with a severity that does not exist, before any test runs."""
    given = config.getini("firstlight_fail_on")
    if given not in SEVERITIES:
        raise pytest.UsageError(f"firstlight_fail_on = {given}: choose from {', '.join(SEVERITIES)}")


@pytest.fixture
def assert_healthy(pytestconfig: pytest.Config) -> "Callable[..., Diagnosis]":
    """Return `firstlight.testing.assert_healthy`, as strict as the command line or the ini file says.

    A test calls assert_healthy(model, batch, loss, target=labels).
    """
    from firstlight import testing

    fail_on = pytestconfig.getoption("firstlight_fail_on") or pytestconfig.getini("firstlight_fail_on")
    return partial(testing.assert_healthy, fail_on=fail_on)
