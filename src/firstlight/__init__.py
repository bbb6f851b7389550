"""firstlight gives a neural network a good start, and proves it. The public names; each loads when first used.

Loading late keeps `firstlight --help` instant. `plan`, `diagnose`, `race`, `doctor` and others are functions that share
their name with the module they live in, so importing such a module must not put the module in the function's place.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from firstlight._version import __version__

if TYPE_CHECKING:
    from firstlight import errors, init, random, testing
    from firstlight.checkpoint import Created, create
    from firstlight.diagnose import Diagnosis, Finding, diagnose
    from firstlight.doctor import Checkup, doctor
    from firstlight.init import gain
    from firstlight.learning_rates import learning_rates
    from firstlight.monitor import Monitor
    from firstlight.plan import Plan, initialize, keep, plan, verify
    from firstlight.race import RaceResult, race
    from firstlight.recipes import Recipe
    from firstlight.signal.measure import measure
    from firstlight.signal.predict import predict
    from firstlight.signal.table import Signals

_MODULES = ("errors", "init", "random", "testing")
_HOMES = {
    "Checkup": "doctor",
    "Created": "checkpoint",
    "Diagnosis": "diagnose",
    "Finding": "diagnose",
    "Monitor": "monitor",
    "Plan": "plan",
    "RaceResult": "race",
    "Recipe": "recipes",
    "Signals": "signal",
    "compose": "recipes",
    "create": "checkpoint",
    "diagnose": "diagnose",
    "doctor": "doctor",
    "gain": "init",
    "initialize": "plan",
    "keep": "plan",
    "learning_rates": "learning_rates",
    "measure": "signal",
    "plan": "plan",
    "predict": "signal.predict",
    "race": "race",
    "verify": "plan",
}

__all__ = [
    "Checkup",
    "Created",
    "Diagnosis",
    "Finding",
    "Monitor",
    "Plan",
    "RaceResult",
    "Recipe",
    "Signals",
    "__version__",
    "compose",
    "create",
    "diagnose",
    "doctor",
    "errors",
    "gain",
    "init",
    "initialize",
    "keep",
    "learning_rates",
    "measure",
    "plan",
    "predict",
    "race",
    "random",
    "testing",
    "verify",
]


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"firstlight.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'firstlight' has no attribute '{name}'")
    value = getattr(import_module(f"firstlight.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
