"""The texts of the report: every word of a language by key, and findings in the language of the page."""

from collections.abc import Mapping
from importlib.resources import files

import yaml

from firstlight.diagnose import Finding
from firstlight.errors import OptionError, did_you_mean

LANGUAGES = ("en", "ja")


def check_language(lang: str) -> None:
    """Raise OptionError unless there are texts in the language."""
    if lang not in LANGUAGES:
        near = did_you_mean(lang, LANGUAGES)
        raise OptionError(
            f"lang='{lang}' is not a language of the report. Choose 'en' or 'ja'.{near} Nothing was written."
        )


def texts(lang: str) -> dict[str, str]:
    """Return all texts of a language by key."""
    source = files("firstlight.report").joinpath("texts", f"{lang}.yaml").read_text(encoding="utf-8")
    return {str(key): str(text) for key, text in yaml.safe_load(source).items()}


def finding_texts(finding: Finding, words: Mapping[str, str]) -> dict[str, str]:
    """Return name, cause and remedy of a finding.

    English is what the rule wrote. Another language has sentences by kind (keys name_, cause_, remedy_), filled with the
    numbers of the evidence; cause_KIND/NUMBER is for findings whose evidence has that number. A kind that has none, or
    whose evidence lacks a number that its sentence needs, is shown in English.
    """
    try:
        cause = _sentence(words, "cause", finding)
    except KeyError:
        cause = None
    if cause is None:
        return {"name": finding.kind, "cause": finding.cause, "remedy": finding.remedy}
    if "steady_std" in finding.evidence:
        cause += words["cause_scale"].format(**finding.evidence)
    remedy = _sentence(words, "remedy", finding) or words["remedy_default"]
    return {"name": words[f"name_{finding.kind}"], "cause": cause, "remedy": remedy}


def _sentence(words: Mapping[str, str], part: str, finding: Finding) -> str | None:
    start = f"{part}_{finding.kind}"
    special = (f"{start}/{number}" for number in finding.evidence)
    key = next((key for key in special if key in words), start)
    return words[key].format(**finding.evidence) if key in words else None
