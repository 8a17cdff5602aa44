"""What was proved of a model, image by image."""

import dataclasses
import math

import numpy as np

from keras_wp._checks import check_one_of
from keras_wp.reports.statistics import wilson

_NORMS = ("l2", "linf", "l1")


@dataclasses.dataclass(frozen=True)
class Certificate:
    """The result of `keras_wp.certify`.

    No perturbation of an l2 length below `radius` changes the prediction of
    this model in float32, whatever attack finds it; see `keras_wp.certify` for
    what that rests on.

    Attributes:
        radius: `(n,)`, the l2 radius of each image, in units of its pixels; 0
            where nothing is proved.
        prediction: `(n,)`, the classes predicted.
        correct: `(n,)` bool, which of them are right.
        constant: The Lipschitz constant in l2 from the images to the features
            that the head classifies (to the logits, if there is no head).
        rounding: `(n,)`, by how much `radius` is shorter than exact
            arithmetic would have it, for the rounding of float32.
        pixels: How many numbers an image consists of.
    """

    radius: np.ndarray
    prediction: np.ndarray
    correct: np.ndarray
    constant: float
    rounding: np.ndarray
    pixels: int

    def __len__(self):
        return len(self.radius)

    def radii(self, norm="l2"):
        """The radii in a norm, `(n,)`.

        In l2 they are those proved. Of l∞ and l1 is known what follows from
        l2: `radius / sqrt(pixels)` and `radius`, which is usually far less
        than is true.

        Args:
            norm: `"l2"`, `"linf"` or `"l1"`.

        Raises:
            ValueError: If it is none of these.
        """
        check_one_of(_NORMS, norm=norm)
        factor = 1 / math.sqrt(self.pixels) if norm == "linf" else 1.0
        return factor * self.radius

    def certified(self, eps, norm="l2"):
        """Which images are classified correctly within eps, for certain.

        Args:
            eps: The length of the longest perturbation, at least 0.
            norm: Its norm.

        Returns:
            `(n,)` bool.
        """
        if not eps >= 0:
            raise ValueError(
                "Argument `eps` must be a number of at least 0. Received: "
                f"eps={eps!r}"
            )
        return self.correct & (self.radii(norm) > eps)

    def accuracy(self, eps, norm="l2"):
        """Share of the images that are `certified` at eps.

        It is at most the accuracy under any attack within eps.
        """
        return float(self.certified(eps, norm).mean())

    @property
    def clean_accuracy(self):
        """Share of the images that are classified correctly as they are."""
        return float(self.correct.mean())

    def __str__(self):
        right = self.radius[self.correct]
        middle = float(np.median(right)) if len(right) else 0.0
        low, high = wilson(int(self.correct.sum()), len(self))
        return (
            f"{len(self)} images; clean {100 * self.clean_accuracy:.1f} % "
            f"({100 * low:.1f}-{100 * high:.1f}); median radius of those in "
            f"l2 {middle:.4g}; Lipschitz constant {self.constant:.6g}; "
            f"at most {self.rounding.max():.2g} subtracted for float32"
        )
