"""Recipes for the ends of a model: output-prior, whose bias knows how frequent the classes are; lora, for adapters."""

import math

from firstlight.init.listed import positive
from firstlight.model.spec import Option
from firstlight.model.tensors import TensorInfo
from firstlight.recipes import branches
from firstlight.recipes.choice import Choice, Context, constant, keep
from firstlight.recipes.lookup import parse
from firstlight.recipes.recipe import Unfit, register


def _check(*, frequencies: str | None, base: str, std: float) -> None:
    if frequencies is not None:
        positive(frequencies, "frequencies")


def _prior_fits(context: Context, *, frequencies: str | None, **_: object) -> str | None:
    if frequencies is None:
        return "it has to be told how frequent the classes are: output-prior:frequencies=0.9/0.1, one number for each class."
    if not _output_biases(context):
        return "its output layer has no bias, or is not known. Give the output layer a bias."
    return None


def _output_biases(context: Context) -> list[TensorInfo]:
    biases = [info for info in context.infos if info.role == "bias"]
    return [info for info in biases if (owner := context.weight_of(info)) is not None and owner.role == "output-weight"]


@register(
    "output-prior",
    summary="the output bias is log p of each class, so that the loss starts at the entropy of the classes; the rest as base",
    formula="b_c = log p_c; a single output: b = log(p₁/p₀); output W ~ N(0, 0.01²)",
    paper="Lin, Goyal, Girshick, He and Dollár 2017, Focal loss for dense object detection, arXiv 1708.02002",
    use="Classifiers of classes that are not equally frequent; without it the first steps only learn the frequencies.",
    refuses="models whose output layer has no bias; frequencies that are not one for each class",
    options=(
        Option(
            "frequencies",
            None,
            "how frequent each class is, as 0.9/0.1; a/b for one output: negative, positive",
            "word",
        ),
        Option("base", "he", "the recipe of all other tensors", "word"),
        Option("std", 0.01, "std of the output weight", minimum=0),
    ),
    together=_check,
    fits=_prior_fits,
)
def output_prior(info: TensorInfo, context: Context, *, frequencies: str, base: str, std: float) -> Choice | None:
    """Choose for the output layer after Lin et al.; for everything else what `base` chooses."""
    source = "Lin et al. 2017"
    if info in _output_biases(context):
        given = len(positive(frequencies, "frequencies"))
        if given != (2 if info.shape[0] == 1 else info.shape[0]):
            raise Unfit(f"'{info.name}' {info.shape} has {info.shape[0]} outputs and {given} frequencies were given.")
        reason = f"output bias: log of the classes' frequencies {frequencies} ({source})"
        return Choice("log-prior", 0.0, reason, {"frequencies": frequencies})
    if info.role == "output-weight":
        return Choice("normal", std, f"output weight: std = {std:g}, so that the bias decides at the start ({source})")
    return parse(base).choose(info, context)


def _lora_fits(context: Context, **_: object) -> str | None:
    if any(info.part == "low-rank-out" for info in context.infos):
        return None
    words = "it has no low-rank pair of weights beside a frozen one."
    if branches.operators_read(context):
        return f"{words} Add adapters to it first."
    return f"{words} They are read from the operators: give example=batch."


@register(
    "lora",
    summary="adapters: the first factor random, the second 0, so that they change nothing at the start; the rest is kept",
    formula="A ~ U(±1/√fan_in), or N(0, 1/r²) with law=normal; B = 0",
    paper="Hu et al. 2022, LoRA: low-rank adaptation of large language models, arXiv 2106.09685",
    use="Adding adapters to a trained model: only they are written.",
    refuses="models without low-rank adapters",
    options=(
        Option(
            "law",
            "uniform",
            "uniform as in PEFT and the authors' code, or normal",
            "word",
            choices=("uniform", "normal"),
        ),
    ),
    fits=_lora_fits,
)
def lora(info: TensorInfo, context: Context, *, law: str) -> Choice | None:
    """Choose for adapters after Hu et al.; all other tensors are left as they are."""
    source = "Hu et al. 2022"
    if info.part == "low-rank-out":
        return constant(0.0, f"second factor of an adapter: 0, so that it adds nothing at the start ({source})")
    if info.part == "low-rank-in":
        if law == "normal":
            rank = max(info.fan_out or 1, 1)
            return Choice("normal", 1 / rank, f"first factor of an adapter: std 1/r = 1/{rank} (PEFT's gaussian)")
        size = max(info.fan_in or 1, 1)
        return Choice("uniform", 1 / math.sqrt(3 * size), f"first factor of an adapter: U(±1/√{size}) ({source})")
    return keep(f"{info.role}: part of the trained model, left as it is")
