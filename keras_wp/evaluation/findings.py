"""What an audit says: why an accuracy may be too good."""

import dataclasses

# From the gravest to the slightest.
SEVERITIES = ("high", "warning", "info")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One reason to trust an accuracy less, or not at all.

    Attributes:
        severity: `"high"` if the accuracy in the report is, or may well be,
            wrong by several points; `"warning"` if by little, or if some
            attacks of the report failed where others did not; `"info"` for
            what is good to know.
        message: One plain sentence.
        evidence: The figures behind it, a dictionary of plain values.
        check: The name of the check, as in `docs/audit.md`, such as
            `"zero_gradients"`.

    Raises:
        ValueError: If there is no such severity.
    """

    severity: str
    message: str
    evidence: dict
    check: str = ""

    def __post_init__(self):
        if self.severity not in SEVERITIES:
            raise ValueError(
                "Invalid value for argument `severity`. Expected one of "
                f"{sorted(SEVERITIES)}. Received: severity={self.severity!r}"
            )


def gravest_first(findings):
    """The findings by severity, otherwise in the order given: a tuple."""
    rank = {name: place for place, name in enumerate(SEVERITIES)}
    return tuple(sorted(findings, key=lambda f: rank[f.severity]))
