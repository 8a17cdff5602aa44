"""What an audit says: why an accuracy may be too good."""

import dataclasses

from keras_wp._checks import check_one_of

# From the gravest to the slightest.
SEVERITIES = ("high", "warning", "info")
# By how much accuracy a finding is judged. Three points are what papers call
# an improvement, so that an error of that size makes one out of nothing; a
# point is what AutoAttack's authors take for a difference worth a remark.
HIGH, WARNING = 0.03, 0.01


@dataclasses.dataclass(frozen=True)
class Finding:
    """One reason to trust an accuracy less, or not at all.

    Attributes:
        severity: `"high"` if the accuracy in the report is, or may well be,
            wrong by 3 points or more; `"warning"` if by 1 point or more, or
            if some attacks of the report failed where others did not;
            `"info"` for what is good to know.
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
        check_one_of(SEVERITIES, severity=self.severity)


def severity_of(share):
    """How grave it is that so much accuracy is in doubt; None if it is not.

    Args:
        share: A share of all images, in [0, 1].
    """
    if share >= HIGH:
        return "high"
    return "warning" if share >= WARNING else None


def gravest_first(findings):
    """The findings by severity, otherwise in the order given: a tuple."""
    rank = {name: place for place, name in enumerate(SEVERITIES)}
    return tuple(sorted(findings, key=lambda f: rank[f.severity]))
