"""`Plan`: which tensor gets which distribution, and why. Made, compared, saved and loaded here; apply/ writes."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn

from firstlight import apply, calibrate
from firstlight.errors import FileError, PlanError, did_you_mean
from firstlight.files import write_whole
from firstlight.init.haar import remembering
from firstlight.model.roles import read
from firstlight.random import STREAM_VERSION
from firstlight.recipes import Composition, PlanRow, Recipe, parse
from firstlight.recipes.row import COLUMNS, SCHEMA
from firstlight.recipes.rows import rows_fitting, rows_of

if TYPE_CHECKING:
    import torch
    from rich.table import Table

_WORDS = ("role", "fan_in", "fan_out", "reason", "found_by", "aliases")

_REMEMBERED = 1 << 23  # numbers of orthogonal matrices kept between measuring and writing: 32 MB

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing two plans disagree on: a tensor only one of them has (field 'row'), or a field of a row."""

    name: str
    field: str
    ours: Any
    theirs: Any

    def __str__(self) -> str:
        if self.field == "row":
            return f"'{self.name}' is only in the {'first' if self.theirs is None else 'second'} plan"
        return f"'{self.name}': {self.field} = {self.ours} in the first plan, {self.theirs} in the second"


class Plan:
    """For every parameter and buffer of a model: the distribution, its std, and the reason. Data; it holds no tensor.

    `recipe` is the spec it was made from and `stream` the version of the stream it draws from. `plan["fc1.weight"]` is
    a row, by any name of a tied tensor; iterating gives the rows in the model's order of definition.
    """

    def __init__(self, recipe: str, rows: Sequence[PlanRow], *, stream: int = STREAM_VERSION) -> None:
        self.recipe, self.rows, self.stream = recipe, tuple(rows), stream
        if stream != STREAM_VERSION:
            raise PlanError(
                f"the plan draws from stream version {stream}; this firstlight has version {STREAM_VERSION}. "
                "Use the firstlight that made it, or plan anew. Nothing was written."
            )
        self._by_name: dict[str, PlanRow] = {}
        for row in self.rows:
            for name in (row.name, *row.aliases):
                if name in self._by_name:
                    raise PlanError(f"'{name}' {row.shape} is claimed by two rows. Remove one. Nothing was written.")
                self._by_name[name] = row

    def __getitem__(self, name: str) -> PlanRow:
        if name not in self._by_name:
            raise PlanError(f"the plan has no row '{name}'.{did_you_mean(name, self._by_name)}")
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[PlanRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and (self.recipe, self.rows) == (other.recipe, other.rows)

    def __hash__(self) -> int:
        return hash((self.recipe, tuple(row.name for row in self.rows)))

    def apply(
        self,
        model: Model,
        seed: int = 0,
        *,
        device: "str | torch.device" = "cpu",
        rebuild: Callable[[], nn.Module] | None = None,
        within: str | Callable[[str], str] | None = None,
    ) -> Model:
        """Give every tensor of the model what the plan says, and return the model. Applying twice is applying once.

        Tensors on the meta device get memory on `device`, with the values that they would have anywhere. Tensors that are
        'recomputed' (rotary tables, masks) get their value from code: of a method of their module, of the `_init_weights`
        of the model around it, as Hugging Face's models have, or of `rebuild`, a function that builds the model anew; its
        parameters get no memory. What no code computes stays as its constructor left it; on the meta device it is refused.

        Of a model that is sharded (`fully_shard`, `parallelize_module`), each process fills its own shards, with the values
        of those regions of the whole; every process must call this. A part of a model, such as a pipeline stage or some
        of the experts, gets what the plan of the whole model gives it: `within` is what comes before its names there ('' for
        a stage that keeps the whole model's names), or a function from a name here to the name there.

        Raises:
            PlanError, DtypeError, OptionError: if plan and model do not fit, or a tensor on the meta device would be left
                without a value; then no byte of the model has changed.
            ProcessError: if processes that make the matrices of a sharded model together do not all come, with the same plan
                and seed; no parameter has changed.
        """
        apply.write(self.rows, model, seed, device, rebuild, within)
        return model

    def diff(self, other: "Plan") -> list[Difference]:
        """Return where the plans differ, in order of this plan's rows, then rows that only the other has.

        Every field counts, the words of the reason and how it was found apart.
        """
        theirs = {row.name: row for row in other}
        ours = {row.name for row in self}
        found: list[Difference] = []
        for row in self:
            if row.name not in theirs:
                found.append(Difference(row.name, "row", row, None))
                continue
            left, right = row.to_json(), theirs[row.name].to_json()
            fields = [field for field in left if field not in ("reason", "found_by") and left[field] != right[field]]
            found += [Difference(row.name, field, left[field], right[field]) for field in fields]
        return found + [Difference(row.name, "row", None, row) for row in other if row.name not in ours]

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`: schema, stream, recipe, rows."""
        rows = [row.to_json() for row in self]
        return {"schema": SCHEMA, "stream": self.stream, "recipe": self.recipe, "rows": rows}

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of all that decides the values but the seed: names, shapes, distributions and so on.

        Two plans that differ only in what they say of a tensor (its role, its fans, the reason) have the same digest.
        """
        rows = [_deciding(row.to_json()) for row in self]
        text = json.dumps({"stream": self.stream, "rows": rows}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_yaml(self) -> str:
        """Return the plan as YAML to edit; `Plan.load` reads it back to the same rows, every float to its last bit."""
        from firstlight.recipes import planfile

        return planfile.dump(self.recipe, self.stream, self.rows)

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the plan as YAML, whole or not at all, and return the path.

        Raises:
            FileError: if the file exists and force is not set, or it cannot be written.
        """
        return write_whole(path, self.to_yaml(), force=force)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Plan":
        """Read a plan from YAML. Nothing in the file is executed.

        Raises:
            FileError: if the file cannot be read.
            PlanError: if it is not a whole, valid plan; the message names the file, the line and the field.
        """
        from firstlight.recipes import planfile

        recipe, stream, rows = planfile.read(_text(path), str(path))
        try:
            return cls(recipe, rows, stream=stream)
        except PlanError as error:
            raise PlanError(f"{path}: {error}") from None

    def __str__(self) -> str:
        cells = [COLUMNS, *(row.cells() for row in self)]
        widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS))]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells
        ]
        return "\n".join([f"plan '{self.recipe}': {len(self)} tensors", *lines])

    def __repr__(self) -> str:
        return f"<Plan '{self.recipe}': {len(self)} tensors>"

    def __rich__(self) -> "Table":
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(f"plan '{self.recipe}': {len(self)} tensors"), title_justify="left")
        for column in COLUMNS:
            table.add_column(column, overflow="fold", no_wrap=column in ("distribution", "std"))
        for row in self:
            table.add_row(*map(Text, row.cells()))
        return table


def plan(
    model: nn.Module,
    recipe: "str | os.PathLike[str] | Recipe | Composition | Plan",
    *,
    keep: str | Sequence[str] = (),
    example: Any = None,
    seed: int = 0,
) -> Plan:
    """Return a plan in which every parameter and buffer of the model has exactly one row. The model is only read.

    Args:
        model: any nn.Module, on any device, the meta device included.
        recipe: a name or spec such as "he" or "normal:std=0.02"; a Recipe; what `compose` made; a Plan; or the path of a
            plan or a recipe written as YAML. A plan is returned as it is after checking that it is for this model, apart
            from what `keep` adds.
        keep: names, or patterns such as "*.gate.alpha", of tensors to leave as they are.
        example: what the model's forward takes: a tensor, a tuple of arguments or a dict of keywords. Roles and fans are
            then read from the operators that use each tensor, else from module types; shapes alone count, so the meta
            device will do, but recipes that measure, such as lsuv, run a copy of the model on its values.

    Raises:
        RecipeError: if the recipe does not fit the model, or needs an example.
        UnclaimedParameterError: if the recipe has no rule for a tensor and it is not kept.
        DtypeError: if a parameter that is not kept has a dtype that cannot be drawn into.
        OptionError: if there is no such recipe or option, or a pattern matches nothing.
        PlanError: if a plan given is for another model, or the model does not run on the example.
        MeasureError: if a recipe measures and the pass fails.

    Example:
        >>> made = plan(nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 2)), "xavier")
        >>> len(made), made["0.weight"].distribution, round(made["0.weight"].std, 4)
        (4, 'normal', 0.4082)
    """
    return _plan(model, recipe, keep, example, seed)


def is_measured(recipe: "str | os.PathLike[str] | Recipe | Composition | Plan") -> bool:
    """Return whether the plans that a recipe makes depend on the seed, because it measures weights on a batch.

    Example:
        >>> is_measured("auto"), is_measured("lsuv"), is_measured("he")
        (True, True, False)
    """
    found = _find(recipe) if isinstance(recipe, str | os.PathLike) else recipe
    base = found.base if isinstance(found, Composition) else found
    return isinstance(base, Recipe) and (base.measures or base.targets is not None)


def _plan(
    model: nn.Module,
    recipe: "str | os.PathLike[str] | Recipe | Composition | Plan",
    keep: str | Sequence[str],
    example: Any,
    seed: int,
) -> Plan:
    """Plan; a recipe that measures does so on weights of this seed."""
    found = _find(recipe) if isinstance(recipe, str | os.PathLike) else recipe
    patterns = (keep,) if isinstance(keep, str) else tuple(keep)
    if isinstance(found, Plan):
        infos = read(model, run=False)
        return Plan(found.recipe, rows_fitting(found.rows, infos, patterns), stream=found.stream)
    infos = read(model, example)
    rows = rows_of(found, infos, patterns)
    if found.measures:
        rows = calibrate.correct(rows, infos, model, example, seed=seed, **found.measuring)
    held = found.held(infos) if calibrate.can_hold(model, example) else None
    if held is not None:
        rows = calibrate.hold(rows, infos, model, example, held=held, seed=seed)
    return Plan(str(found), rows)


def initialize(
    model: Model,
    recipe: "str | os.PathLike[str] | Recipe | Composition | Plan",
    *,
    seed: int = 0,
    keep: str | Sequence[str] = (),
    example: Any = None,
    device: "str | torch.device" = "cpu",
    rebuild: Callable[[], nn.Module] | None = None,
) -> Model:
    """Plan and apply: give every parameter and buffer what the recipe says, and return the model.

    Args, Raises: as `plan` and `Plan.apply`. On an error no byte of the model has changed.

    Example:
        >>> model = initialize(nn.Linear(8, 4), "he", seed=1)
        >>> again = initialize(nn.Linear(8, 4), "he", seed=1)
        >>> bool((model.weight == again.weight).all()), bool((model.bias == 0).all())
        (True, True)
    """
    with remembering(_REMEMBERED):  # a recipe that measures draws all weights twice
        return _plan(model, recipe, keep, example, seed).apply(model, seed, device=device, rebuild=rebuild)


def verify(
    model: nn.Module,
    plan: Plan,
    seed: int = 0,
    *,
    rebuild: Callable[[], nn.Module] | None = None,
    within: str | Callable[[str], str] | None = None,
) -> tuple[str, ...]:
    """Return the names of the tensors that do not hold what the plan gives them under the seed; empty when all do.

    Every value is made anew and compared bit for bit, one tensor at a time, so it proves that a model was initialised in
    full, once, and not touched since. Tensors that `Plan.apply` leaves as they are do not count; `rebuild` and `within` are as
    there. The model is only read. Of a sharded model, each process checks its own shards, and nothing is sent.

    Raises:
        PlanError, DtypeError, OptionError: if plan and model do not fit.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2))
        >>> made = plan(model, "he")
        >>> verify(made.apply(model, seed=3), made, seed=3)
        ()
        >>> with torch.no_grad():
        ...     _ = model[1].bias.add_(1)
        >>> verify(model, made, seed=3), len(verify(model, made, seed=4))
        (('1.bias',), 3)
    """
    return apply.differing(plan.rows, model, seed, rebuild, within)


def _deciding(data: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a row that decide its values, those of its slices likewise."""
    slices = [{key: value for key, value in part.items() if key not in _WORDS} for part in data["slices"]]
    return {key: value for key, value in data.items() if key not in _WORDS} | {"slices": slices}


def keep(*patterns: str) -> tuple[str, ...]:
    """Return patterns of names for `plan(..., keep=...)`: those tensors are left as they are."""
    return patterns


def _find(text: str | os.PathLike[str]) -> Recipe | Composition | Plan:
    """Return the plan or the recipe that a path names, else the recipe that a spec names."""
    path = os.fspath(text)
    if not path.endswith((".yaml", ".yml")) and isinstance(text, str):
        return parse(path)
    from firstlight.recipes import recipefile

    written = _text(path)
    return recipefile.read(written, path) if recipefile.is_recipe(written) else Plan.load(path)


def _text(path: str | os.PathLike[str]) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise FileError(f"'{path}' cannot be read: {error.strerror}. Nothing was written.") from error
    except UnicodeDecodeError as error:
        raise PlanError(f"'{path}' is not a text file in UTF-8. Nothing was written.") from error
