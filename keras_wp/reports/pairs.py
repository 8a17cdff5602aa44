"""Outcomes of two models on the same images, counted."""

import dataclasses

from keras_wp.reports.statistics import mcnemar, paired_difference


@dataclasses.dataclass(frozen=True)
class Pair:
    """Outcomes of two models under one condition, counted image by image.

    Attributes:
        condition: `"clean"`, an attack's label, or `"worst case"`.
        norm: The norm of the attack, or None.
        eps: Its budget, or None.
        both: Number of images on which both models are right.
        first: Number of images on which only the first is.
        second: Number of images on which only the second is.
        neither: Number of images on which none is.
    """

    condition: str
    norm: str | None
    eps: float | None
    both: int
    first: int
    second: int
    neither: int

    @property
    def count(self):
        """The number of images."""
        return self.both + self.first + self.second + self.neither

    @property
    def accuracies(self):
        """The first model's accuracy, and the second's."""
        return tuple(
            (self.both + only) / self.count
            for only in (self.first, self.second)
        )

    @property
    def difference(self):
        """The second model's accuracy less the first's."""
        return (self.second - self.first) / self.count

    @property
    def interval(self):
        """The 95 % interval of the difference, for paired outcomes."""
        return paired_difference(
            self.both, self.second, self.first, self.neither
        )

    @property
    def p_value(self):
        """That of McNemar's exact test, two-sided, of no difference."""
        return mcnemar(self.first, self.second)


def counted(condition, first, second, norm=None, eps=None):
    """Count the outcomes of two models under one condition.

    Args:
        condition: See `Pair`.
        first: `(n,)` bool, which images the first model is right on.
        second: The same of the second.
        norm: The norm of the attack, or None.
        eps: Its budget, or None.
    """
    return Pair(
        condition=condition,
        norm=norm,
        eps=eps,
        both=int((first & second).sum()),
        first=int((first & ~second).sum()),
        second=int((~first & second).sum()),
        neither=int((~first & ~second).sum()),
    )
