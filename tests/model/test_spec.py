"""Specs: text to checked options and back."""

import pytest

from firstlight.errors import OptionError
from firstlight.model.spec import Option, check, parse, split, write

DEPTH = Option("depth", 3, "layers", "whole", 1)
STD = Option("std", 0.01, "scale", minimum=0)
ACT = Option("act", "relu", "activation", "word", choices=("relu", "tanh"))
GAIN = Option("gain", "activation", "gain", "word", 0, choices=("activation",), read_number=True)
TIE = Option("tie", False, "tie", "switch")
INIT = Option("init", None, "recipe", "word")
ALL = (DEPTH, STD, ACT, GAIN, TIE, INIT)


def test_options_come_out_in_their_own_types_and_defaults_fill_the_rest() -> None:
    values = parse("x", "depth=30, std=1e-3,act=tanh,gain=2,tie=yes", ALL)
    assert values == {"depth": 30, "std": 0.001, "act": "tanh", "gain": 2.0, "tie": True, "init": None}


def test_a_spec_inside_a_spec_takes_the_rest_of_the_text() -> None:
    values = parse("x", "depth=4,init=uniform:low=-1,high=1", ALL, tail="init")
    assert (values["depth"], values["init"]) == (4, "uniform:low=-1,high=1")


def test_a_spec_inside_a_spec_without_options_may_stand_anywhere() -> None:
    values = parse("x", "init=he,depth=4", ALL, tail="init")
    assert (values["depth"], values["init"]) == (4, "he")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("depht=3", r"x: 'depht' is not an option\. It has depth, .* Did you mean 'depth'\?"),
        ("depth=0", r"x: depth = 0, must be a whole number >= 1\."),
        ("depth=2.5", r"depth = 2\.5, must be a whole number"),
        ("std=-0.02", r"std = -0\.02, must be a finite number >= 0\."),
        ("std=nan", r"std = nan, must be a finite number"),
        ("std=small", r"std = small, must be a finite number"),
        ("act=tanhh", r"act = tanhh, must be 'relu' or 'tanh'\. Did you mean 'tanh'\?"),
        ("gain=huge", r"gain = huge, must be 'activation' or a finite number >= 0"),
        ("tie=perhaps", r"tie = perhaps, must be yes or no"),
        ("depth", r"'depth' is not an option\. Write option=value"),
        ("depth=3,depth=4", r"depth is given twice"),
        ("depth=3,,std=1", r"'' is not an option"),
    ],
)
def test_a_wrong_option_is_named_with_what_was_needed(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse("x", text, ALL)


def test_an_owner_without_options_says_so() -> None:
    with pytest.raises(OptionError, match="It has no options"):
        check("recipe 'zeros'", {"std": 1}, ())


def test_writing_and_parsing_return_the_same_values() -> None:
    values = parse("x", "std=0.1,tie=yes,gain=0.5", ALL)
    text = write("x", values, ALL)
    assert text == "x:std=0.1,gain=0.5,tie=yes"
    assert parse("x", split(text)[1], ALL) == values
