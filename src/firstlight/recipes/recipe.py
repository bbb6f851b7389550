"""`Recipe`: a named scheme over whole models, the registry of them, and how a recipe is written as text.

A recipe of one's own is a function that chooses for the tensors it cares about and returns None for the rest:

    @register("tiny", summary="N(0, 0.001²) for every weight", formula="std = 0.001")
    def tiny(info, context):
        return Choice("normal", 0.001, "tiny on purpose") if info.role == "weight" else None
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from firstlight.errors import OptionError, RecipeError
from firstlight.model import spec
from firstlight.model.spec import Option
from firstlight.model.tensors import TensorInfo
from firstlight.recipes.choice import Choice, Context
from firstlight.recipes.common import usual

Rule = Callable[..., Choice | None]
Level = Literal["zero", "tokens", "inputs", "pooled"]
Refusal = Callable[..., str | None]  # a function of (context, **options): why the recipe does not fit, or None


@dataclass(frozen=True, slots=True)
class Held:
    """What a batch is to hold: second moments of the outputs of layers, and levels of the model's outputs, by weight.

    A level is what an output layer gives on average, by its bias, when nothing is known of an example: 'zero'; 'tokens', the
    log of how frequent each token is in the batch; 'inputs', the mean of the input. The moment of an output that has a level is
    about its mean. 'pooled' is for hidden layers whose output is added up over places: its bias makes each mean 0.
    reading: the weights that read the data; where it is far from 0, biases take away what its mean makes, and
    the moment is of what is left; where some of its numbers vary far more than others, their weights are smaller.
    """

    moments: Mapping[str, float]
    levels: Mapping[str, Level] = field(default_factory=dict)
    reading: frozenset[str] = frozenset()


Targets = Callable[[Context], Held]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named scheme: a function from a tensor and its context to a choice, with options, source and use.

    refuses: in words, what it does not fit; fits: the function that finds out. measures: whether its stds are corrected
    on a batch (`calibrate/`) once they are chosen. targets: a function of the context that returns what a batch is to hold,
    where there is one.
    """

    name: str
    rule: Rule
    summary: str
    formula: str = ""
    paper: str = ""
    use: str = ""
    options: tuple[Option, ...] = ()
    together: Callable[..., object] | None = None  # raises OptionError for options that do not go together
    values: Mapping[str, Any] = field(default_factory=dict)
    refuses: str = ""
    fits: Refusal | None = None
    measures: bool = False
    targets: Targets | None = None

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

    def held(self, infos: Sequence[TensorInfo]) -> Held | None:
        """Return what a batch is to hold, None where the recipe holds nothing."""
        return None if self.targets is None else self.targets(Context(infos))

    @property
    def measuring(self) -> Mapping[str, Any]:
        """How it measures, if it does: its options."""
        return self.values

    def decide(
        self, infos: Sequence[TensorInfo], asked: Sequence[TensorInfo], *, by_rule: bool = False
    ) -> dict[str, Choice | None]:
        """Return a choice, or None, for every tensor asked about, by name.

        Raises:
            RecipeError: if the recipe does not fit the model.
        """
        context = Context(infos, asked, by_rule=by_rule)
        try:
            reason = self.fits(context, **self.values) if self.fits is not None else None
            if reason is None:
                return {info.name: self.choose(info, context) for info in asked}
        except Unfit as error:
            reason = str(error)
        raise RecipeError(f"recipe '{self}' does not fit this model: {reason} No parameter was changed.")


class Unfit(Exception):  # noqa: N818 (it never leaves this package)
    """Raised by a rule that meets a tensor it cannot serve; `decide` turns it into a RecipeError."""


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
    refuses: str = "",
    fits: Refusal | None = None,
    measures: bool = False,
    targets: Targets | None = None,
) -> Callable[[Rule], Rule]:
    """Register the decorated function as the rule of a recipe that `parse` and `firstlight.plan` know by name.

    Raises:
        OptionError: if the name is taken.
    """
    if name in RECIPES:
        raise OptionError(f"recipe '{name}' is registered already. Choose another name.")

    def add(rule: Rule) -> Rule:
        RECIPES[name] = Recipe(
            name,
            rule,
            summary,
            formula,
            paper,
            use,
            tuple(options),
            together,
            refuses=refuses,
            fits=fits,
            measures=measures,
            targets=targets,
        )
        return rule

    return add
