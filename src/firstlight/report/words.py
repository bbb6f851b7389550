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
    numbers of the evidence; a kind that has none, or whose evidence lacks a number it needs, is shown in English.
    """
    kind = finding.kind
    try:
        cause = words[f"cause_{kind}"].format(**finding.evidence)
    except KeyError:
        return {"name": kind, "cause": finding.cause, "remedy": finding.remedy}
    if "steady_std" in finding.evidence:
        cause += words["cause_scale"].format(**finding.evidence)
    remedy = words.get(f"remedy_{kind}", words["remedy_default"])
    return {"name": words[f"name_{kind}"], "cause": cause, "remedy": remedy}
