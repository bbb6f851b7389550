"""Language tasks: what is asked, parts that share nothing, vocabularies made of the training part, clear refusals."""

from pathlib import Path

import pytest
import torch

from firstlight.errors import DataError, OptionError
from firstlight.race import task
from firstlight.race.tasks import IGNORED

SENTENCE = "the quick brown fox, number {}, jumps over the lazy dog. "
TEXT = "".join(SENTENCE.format(n) for n in range(400))


def save(folder: Path, text: str = TEXT, options: str = "") -> str:
    (folder / "mine.txt").write_text(text, encoding="utf-8")
    return f"{folder / 'mine.txt'}{options}"


def test_every_token_is_asked_for_the_one_after_it(tmp_path: Path) -> None:
    found = task(save(tmp_path, options=":context=16"))
    inputs, targets = found.train
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert torch.equal(inputs[1:, 0], targets[:-1, -1])
    assert bytes(inputs[0].tolist()).decode() == TEXT[:16]
    assert (found.name, found.kind, found.classes, found.mask) == ("mine", "next-token", 256, None)


def test_the_parts_are_apart_and_together_the_whole(tmp_path: Path) -> None:
    found = task(save(tmp_path, "".join(f"{n:05} " for n in range(10_000)), ":context=6,validation=10000"))
    seen = [
        set(bytes(part[0].flatten().tolist()).decode().split()) for part in (found.train, found.validation, found.test)
    ]
    whole = [{word for word in words if len(word) == 5} for words in seen]
    assert not (whole[0] & whole[1] | whole[0] & whole[2] | whole[1] & whole[2])
    assert len(whole[0]) / 10_000 == pytest.approx(0.9, abs=0.02)
    assert len(whole[1]) / 10_000 == pytest.approx(0.05, abs=0.01)


def test_hidden_tokens_are_asked_for_and_the_others_are_not(tmp_path: Path) -> None:
    plain, masked = (task(save(tmp_path, options=f":context=16,form={form}")) for form in ("next", "masked"))
    inputs, targets = masked.train
    asked = torch.ne(targets, IGNORED)
    assert torch.equal(torch.where(asked, targets, inputs), plain.train[0])
    n = asked.numel()  # the share of hidden ones is binomial: 5 standard errors of 0.15, and of 0.8 of those
    assert float(asked.float().mean()) == pytest.approx(0.15, abs=5 * (0.15 * 0.85 / n) ** 0.5 + 1 / 16 * 0.075)
    shown = float(torch.eq(inputs[asked], 255).float().mean())
    assert shown == pytest.approx(0.8, abs=5 * (0.8 * 0.2 / int(asked.sum())) ** 0.5 + 0.03)
    assert asked.any(1).all()
    assert (masked.kind, masked.mask) == ("masked-token", 255)
    assert not (plain.train[0] == 255).any()


@pytest.mark.parametrize("unit", ["char", "word"])
def test_vocabularies_know_what_the_training_part_has(unit: str, tmp_path: Path) -> None:
    text = list(TEXT)
    text[len(text) * 95 // 1000 :][:1] = "Ω"
    held = len(text) * 9 // 100 + 20
    text[held] = "Ω"  # in the tenth block of a hundred, which validates
    found = task(save(tmp_path, "".join(text), f":tokens={unit},context=8,vocab=40"))
    assert found.classes <= 40
    assert int(found.train[0].min()) >= 1
    assert int(found.train[0].max()) < found.classes
    assert (found.validation[0] == 1).any()  # unknown


def test_limits_take_windows_from_all_over_the_text(tmp_path: Path) -> None:
    whole, few = (task(save(tmp_path, options=f":context=16{more}")) for more in ("", ",train=10,validation=3"))
    assert (len(few.train[1]), len(few.validation[1])) == (10, 3)
    assert torch.equal(few.train[0][5], whole.train[0][len(whole.train[0]) // 2])


def test_the_standard_library_is_a_text_that_is_always_here() -> None:
    found = task("text")
    assert len(found.train[1]) > 10_000
    assert task("text", form="masked").kind == "masked-token"
    assert task("text:form=next", form="masked").kind == "next-token"


@pytest.mark.parametrize(
    ("text", "options", "error", "message"),
    [
        (
            "too short",
            "",
            DataError,
            "has 9 tokens, of which 1 in 20 validate: .*, fewer than the 65 of a window. Give a text",
        ),
        (TEXT, ":context=4000", DataError, r"fewer than the 4001 of a window.*or context=1\d\d\d"),
        (TEXT, ":contxt=4", OptionError, "Did you mean 'context'"),
        (TEXT, ":tokens=bpe", OptionError, "'byte' or 'char' or 'word'"),
        (TEXT, ":context=1", OptionError, "context = 1, must be a whole number >= 2"),
    ],
)
def test_texts_that_do_not_do_are_refused(
    text: str, options: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        task(save(tmp_path, text, options))


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"caf\xe9 " * 100)
    with pytest.raises(DataError, match=r"is not text in UTF-8 \(byte 3\)"):
        task(str(tmp_path / "x.txt"))
    with pytest.raises(DataError, match="cannot be read: No such file"):
        task(str(tmp_path / "nowhere.txt"))
    with pytest.raises(DataError, match="there is no file or folder"):
        task(str(tmp_path / "nowhere"))
