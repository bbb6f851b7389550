"""The file form of a recipe: YAML that names a base recipe, and rules for the tensors that get another one.

recipe: he
rules:
  - match: "*.attn.out"
    use: gpt2
  - match: role:embedding
    use: normal:std=0.02
"""

from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from firstlight.errors import OptionError, PlanError
from firstlight.recipes.choice import KEEP
from firstlight.recipes.compose import Composition, Rule
from firstlight.recipes.lookup import parse
from firstlight.recipes.yamlfile import compose, construct, first_error, line_of, needed

_NEEDS = "not a recipe: needs recipe, and rules, each with match and use"
_PLAN_KEYS = ("schema", "stream", "rows")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _RuleModel(_Strict):
    match: str
    use: str


class _RecipeModel(_Strict):
    recipe: str
    rules: list[_RuleModel] = []


def is_recipe(text: str) -> bool:
    """Return whether YAML is meant as a recipe: it names one and has none of a plan's own keys.

    Example:
        >>> is_recipe("recipe: he"), is_recipe("schema: 1")
        (True, False)
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return text.lstrip().startswith(("recipe:", "rules:"))
    keys = [key.value for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
    return ("recipe" in keys or "rules" in keys) and not any(key in keys for key in _PLAN_KEYS)


def read(text: str, path: str) -> Composition:
    """Return the composition that a recipe's YAML describes.

    Args:
        text: what the file holds.
        path: its name, for messages.

    Raises:
        PlanError: if it is not YAML or does not fit the schema; the message names file and line.
        OptionError: if there is no such recipe, option, role or part; likewise.

    Example:
        >>> str(read("recipe: he\\nrules:\\n- match: '*.out'\\n  use: xavier", "my.yaml"))
        "he with '*.out': xavier"
    """
    node = compose(text, path, _NEEDS)
    data = construct(node, path)
    try:
        model = _RecipeModel.model_validate(data)
    except ValidationError as error:
        first, place, field = first_error(error)
        words = needed(first, field, ("recipe", "rules", "match", "use"))
        raise PlanError(f"{path}:{line_of(node, place)}: {words} Nothing was written.") from None
    base = _parse(model.recipe, node, ("recipe",), path)
    rules = []
    for number, rule in enumerate(model.rules):
        place = ("rules", number)
        use = None if rule.use == KEEP else _parse(rule.use, node, (*place, "use"), path)
        rules.append(_at(lambda rule=rule, use=use: Rule(rule.match, use), node, (*place, "match"), path))
    return Composition(base, tuple(rules))


def _parse(text: str, node: yaml.Node, place: tuple[Any, ...], path: str) -> Any:
    return _at(lambda: parse(text), node, place, path)


def _at(make: Any, node: yaml.Node, place: tuple[Any, ...], path: str) -> Any:
    """Return what `make` returns; an OptionError gets the file and the line in front."""
    try:
        return make()
    except OptionError as error:
        words = str(error).removesuffix(" No parameter was changed.")
        raise OptionError(f"{path}:{line_of(node, place)}: {words} Nothing was written.") from None
