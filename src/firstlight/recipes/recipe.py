"""`Recipe`: a named scheme over whole models, the registry of them, and how a recipe is written as text.

A recipe of one's own is a function that chooses for the tensors it cares about and returns None for the rest:

    @register("tiny", summary="N(0, 0.001²) for every weight", formula="std = 0.001")
    def tiny(info, context):
        return Choice("normal", 0.001, "tiny on purpose") if info.role == "weight" else None
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from firstlight.errors import OptionError, did_you_mean
from firstlight.model import spec
from firstlight.model.spec import Option
from firstlight.model.tensors import TensorInfo
from firstlight.recipes.choice import Choice, Context
from firstlight.recipes.common import usual

Rule = Callable[..., Choice | None]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named scheme: a function from a tensor and its context to a choice, with options, source and use."""

    name: str
    rule: Rule
    summary: str
    formula: str = ""
    paper: str = ""
    use: str = ""
    options: tuple[Option, ...] = ()
    together: Callable[..., object] | None = None  # raises OptionError for options that do not go together
    values: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked = spec.check(f"recipe '{self.name}'", self.values, self.options)
        object.__setattr__(self, "values", checked)
        if self.together is not None:
            self.together(**checked)

    def __str__(self) -> str:
        """The recipe as text that `parse` reads back."""
        return spec.write(self.name, self.values, self.options)

    def with_options(self, **values: Any) -> "Recipe":
        """Return the recipe with these options set, checked."""
        return replace(self, values={**self.values, **values})

    def choose(self, info: TensorInfo, context: Context) -> Choice | None:
        """Return what the recipe decides for a tensor: its own rule, else the usual choice, else None."""
        return self.rule(info, context, **self.values) or usual(info)


RECIPES: dict[str, Recipe] = {}


def register(
    name: str,
    *,
    summary: str,
    formula: str = "",
    paper: str = "",
    use: str = "",
    options: Sequence[Option] = (),
    together: Callable[..., object] | None = None,
) -> Callable[[Rule], Rule]:
    """Register the decorated function as the rule of a recipe that `parse` and `firstlight.plan` know by name.

    Raises:
        OptionError: if the name is taken.
    """
    if name in RECIPES:
        raise OptionError(f"recipe '{name}' is registered already. Choose another name.")

    def add(rule: Rule) -> Rule:
        RECIPES[name] = Recipe(name, rule, summary, formula, paper, use, tuple(options), together)
        return rule

    return add


def parse(text: str) -> Recipe:
    """Return the recipe that a spec names, its options checked.

    Args:
        text: a name, or `name:option=value,option=value`.

    Raises:
        OptionError: if there is no such recipe, or an option is unknown or has a value that is not allowed.

    Example:
        >>> str(parse("normal:std=0.02")), str(parse("he"))
        ('normal:std=0.02', 'he')
    """
    name, options = spec.split(text)
    if name not in RECIPES:
        raise OptionError(
            f"'{name}' is not a recipe. Choose one of {', '.join(sorted(RECIPES))}.{did_you_mean(name, RECIPES)}"
        )
    recipe = RECIPES[name]
    return recipe.with_options(**spec.parse(f"recipe '{name}'", options, recipe.options))
