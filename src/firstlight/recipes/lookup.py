"""Recipes by name: the registered ones, else entry points `firstlight.recipes` of other packages, loaded when asked for.

An entry point is named as its recipe. It points at a `Recipe`, or at anything in a module that registers one by that name:

    [project.entry-points."firstlight.recipes"]
    tiny = "my_package.recipes:tiny"
"""

from importlib.metadata import EntryPoint, entry_points

from firstlight.errors import OptionError, did_you_mean
from firstlight.model import spec
from firstlight.recipes.recipe import RECIPES, Recipe

GROUP = "firstlight.recipes"


def parse(text: str) -> Recipe:
    """Return the recipe that a spec names, its options checked. Plugins are asked for names that are not built in.

    Args:
        text: a name, or `name:option=value,option=value`.

    Raises:
        OptionError: if there is no such recipe, or an option is unknown or has a value that is not allowed.

    Example:
        >>> str(parse("normal:std=0.02")), str(parse("he"))
        ('normal:std=0.02', 'he')
    """
    name, options = spec.split(text)
    if name not in RECIPES and not plug_in(name):
        known = sorted({*RECIPES, *names()})
        raise OptionError(f"'{name}' is not a recipe. Choose one of {', '.join(known)}.{did_you_mean(name, known)}")
    recipe = RECIPES[name]
    return recipe.with_options(**spec.parse(f"recipe '{name}'", options, recipe.options))


def names() -> list[str]:
    """Return the names of the recipes that installed packages offer."""
    return sorted(point.name for point in entry_points(group=GROUP))


def plug_in(name: str) -> bool:
    """Load the recipe of a plugin into the registry; return whether there is one of that name.

    Raises:
        OptionError: if two packages offer the name, or the one that does cannot be loaded or holds no such recipe.
    """
    offered = [point for point in entry_points(group=GROUP) if point.name == name]
    if not offered:
        return False
    if len(offered) > 1:
        packages = " and ".join(f"'{_package(point)}'" for point in offered)
        raise OptionError(f"recipe '{name}' is offered by {packages}. Uninstall one of them.")
    loaded = _load(offered[0])
    if isinstance(loaded, Recipe) and loaded.name == name:
        RECIPES[name] = loaded
    if name not in RECIPES:
        raise OptionError(
            f"recipe '{name}' of package '{_package(offered[0])}': {offered[0].value} is neither a Recipe of that name nor "
            "registers one. Name the entry point as its recipe."
        )
    return True


def _load(point: EntryPoint) -> object:
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise OptionError(
            f"recipe '{point.name}' of package '{_package(point)}' cannot be loaded from {point.value}: "
            f"{type(error).__name__}: {error}."
        ) from error


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.module
