"""`compose`: one recipe for the whole model and others for what rules name. Every tensor has one rule, or the base's."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from firstlight.errors import OptionError, did_you_mean
from firstlight.model.tensors import PARTS, ROLES, TensorInfo
from firstlight.recipes.choice import KEEP, Choice, keep
from firstlight.recipes.lookup import parse
from firstlight.recipes.recipe import Held, Recipe

_KINDS = {"role": ROLES, "part": PARTS}  # what may stand before the colon of a pattern


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern and what the tensors it matches get: a recipe, or None to leave them as they are.

    A pattern is `role:…` or `part:…` with one of those words, or a pattern of names with *, ? and [abc]: of tensors, or of
    modules, which means all tensors in the module.
    """

    match: str
    use: Recipe | None

    def __post_init__(self) -> None:
        kind, colon, word = self.match.partition(":")
        known = _KINDS.get(kind) if colon else None
        if colon and (known is None or word not in known):
            choices = known or [f"{name}:…" for name in _KINDS]
            near = did_you_mean(word if known else kind, known or _KINDS)
            raise OptionError(
                f"rule '{self.match}': '{word if known else kind}' is not known before or after the colon. "
                f"Choose one of {', '.join(choices)}.{near} No parameter was changed."
            )

    def __str__(self) -> str:
        return f"'{self.match}': {KEEP if self.use is None else self.use}"

    def matches(self, info: TensorInfo) -> bool:
        """Whether the rule names a tensor."""
        kind, colon, word = self.match.partition(":")
        if colon:
            return word == (info.role if kind == "role" else info.part)
        return any(fnmatchcase(name, self.match) for full in (info.name, *info.aliases) for name in _up(full))


def _up(name: str) -> Iterator[str]:
    """Yield a tensor's full name, then those of the modules around it: a.b.weight, a.b, a."""
    while name:
        yield name
        name = name.rpartition(".")[0]


@dataclass(frozen=True, slots=True)
class Composition:
    """A recipe for every tensor that no rule names, and the rules. Made by `compose`, or read from YAML."""

    base: Recipe
    rules: tuple[Rule, ...]

    def __str__(self) -> str:
        return f"{self.base} with {', '.join(map(str, self.rules))}" if self.rules else str(self.base)

    @property
    def measures(self) -> bool:
        """Whether the base corrects its stds on a batch."""
        return self.base.measures

    def held(self, infos: Sequence[TensorInfo]) -> Held | None:
        """Return what the base holds on a batch, but for the tensors that rules name."""
        claims = self._claims(infos)
        held = self.base.held(infos)
        if held is None:
            return None
        return Held(
            {name: power for name, power in held.moments.items() if name not in claims},
            {name: level for name, level in held.levels.items() if not claims.keys() & {name, _bias_of(name)}},
            frozenset(name for name in held.reading if not claims.keys() & {name, _bias_of(name)}),
        )

    @property
    def measuring(self) -> Mapping[str, Any]:
        """How the base measures."""
        return self.base.values

    def decide(self, infos: Sequence[TensorInfo], asked: Sequence[TensorInfo]) -> dict[str, Choice | None]:
        """Return a choice, or None, for every tensor asked about, by name.

        Raises:
            OptionError: if a rule matches nothing, or two match one tensor.
            RecipeError: if one of the recipes does not fit the model.
        """
        claims = self._claims(infos)
        left = [info for info in asked if info.name not in claims]
        chosen = self.base.decide(infos, left)
        for rule in self.rules:
            named = [info for info in asked if claims.get(info.name) is rule]
            if rule.use is None:
                chosen |= {info.name: keep(f"kept: named by rule '{rule.match}'") for info in named}
            elif named:
                chosen |= rule.use.decide(infos, named, by_rule=True)
        return chosen

    def _claims(self, infos: Sequence[TensorInfo]) -> dict[str, Rule]:
        claims: dict[str, Rule] = {}
        for rule in self.rules:
            found = [info for info in infos if rule.matches(info)]
            if not found:
                names = {name for info in infos for name in (info.name, info.owner, info.role, info.part) if name}
                near = did_you_mean(rule.match.rpartition(":")[2], sorted(names))
                raise OptionError(
                    f"rule '{rule.match}' matches none of {len(infos)} parameters and buffers. Name one of them, or remove "
                    f"the rule.{near} No parameter was changed."
                )
            for info in found:
                other = claims.setdefault(info.name, rule)
                if other is not rule:
                    raise OptionError(
                        f"'{info.name}' {info.shape} is claimed by two rules: '{other.match}' and '{rule.match}'. Make one "
                        "of them narrower. No parameter was changed."
                    )
        return claims


def compose(base: str | Recipe, rules: Mapping[str, str | Recipe]) -> Composition:
    """Return a recipe that uses `base`, and other recipes for the tensors that patterns name.

    Args:
        base: the recipe of every tensor that no rule names; a name, a spec or a Recipe.
        rules: from patterns to recipes, or to "keep". A pattern is `role:embedding`, `part:attention-out`, or a pattern of
            names such as "*.attn.out"; a module's name stands for all tensors in it.

    Raises:
        OptionError: if there is no such recipe, option, role or part. That every rule matches something, and no two match
            the same tensor, is checked once the model is known.

    Example:
        >>> import firstlight as fl
        >>> from torch import nn
        >>> mixed = compose("he", {"2": "xavier:gain=0.5", "role:bias": "constant:value=0.1"})
        >>> model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.ReLU(), nn.Linear(8, 2, bias=False), nn.PReLU(2))
        >>> fl.plan(model, compose("he", {"2": "normal:std=0.5"}))["2.weight"].std
        0.5
        >>> str(mixed)
        "he with '2': xavier:gain=0.5, 'role:bias': constant:value=0.1"
    """

    def recipe(given: str | Recipe) -> Recipe:
        return parse(given) if isinstance(given, str) else given

    pairs = ((match, None if use == KEEP else recipe(use)) for match, use in rules.items())
    return Composition(recipe(base), tuple(Rule(match, use) for match, use in pairs))


def _bias_of(weight: str) -> str:
    """Return the name of the bias beside a weight."""
    return f"{weight.rpartition('.')[0]}.bias".lstrip(".")
