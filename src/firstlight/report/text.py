"""Findings as plain text: a few lines each, for terminals and for messages of failed tests."""

from collections.abc import Mapping, Sequence

from firstlight.diagnose import Finding
from firstlight.report.words import finding_texts, texts

_SHOWN = 3  # layers named in a finding


def finding_lines(finding: Finding) -> list[str]:
    """Return a finding as lines: what and where, the evidence, the cause, the remedy."""
    shown = ", ".join(finding.where[:_SHOWN])
    more = f" and {len(finding.where) - _SHOWN} more" if len(finding.where) > _SHOWN else ""
    evidence = ", ".join(f"{name} = {value:.4g}" for name, value in finding.evidence.items())
    return [
        f"{finding.severity}: {finding.kind} in {shown}{more}",
        f"  evidence: {evidence}",
        f"  cause: {finding.cause}",
        f"  remedy: {finding.remedy}",
    ]


def _translated(finding: Finding, words: Mapping[str, str]) -> list[str]:
    """Return the same lines in the language of the words."""
    told = finding_texts(finding, words)
    rest = len(finding.where) - _SHOWN
    where = [", ".join(finding.where[:_SHOWN]), *([words["more_layers"].format(count=rest)] if rest > 0 else [])]
    evidence = ", ".join(f"{name} = {value:.4g}" for name, value in finding.evidence.items())
    return [
        f"{words[f'severity_{finding.severity}']}: {told['name']} ({finding.kind})",
        f"  {words['where']}: {' '.join(where)}",
        f"  {words['evidence']}: {evidence}",
        f"  {words['cause']}: {told['cause']}",
        f"  {words['remedy']}: {told['remedy']}",
    ]


def findings_text(findings: Sequence[Finding], lang: str = "en") -> str:
    """Return findings as text, in the order given, in English or Japanese.

    Example:
        >>> print(findings_text([Finding("saturation", "error", ("a",), {"share": 1.0}, "All flat.", "Scale it.")]))
        error: saturation in a
          evidence: share = 1
          cause: All flat.
          remedy: Scale it.
    """
    words = {} if lang == "en" else texts(lang)
    return "\n".join(line for f in findings for line in (_translated(f, words) if words else finding_lines(f)))
