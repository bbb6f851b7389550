"""Findings as plain text: a few lines each, for terminals and for messages of failed tests."""

from collections.abc import Sequence

from firstlight.diagnose import Finding

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


def findings_text(findings: Sequence[Finding]) -> str:
    """Return findings as text, in the order given.

    Example:
        >>> print(findings_text([Finding("saturation", "error", ("a",), {"share": 1.0}, "All flat.", "Scale it.")]))
        error: saturation in a
          evidence: share = 1
          cause: All flat.
          remedy: Scale it.
    """
    return "\n".join(line for finding in findings for line in finding_lines(finding))
