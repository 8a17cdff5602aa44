"""What was certified of a smoothed classifier, and the forms it is shown in."""

import dataclasses

import numpy as np

from keras_wp.reports import charts, text, wording
from keras_wp.reports.html import smoothed_page
from keras_wp.reports.shown import Shown
from keras_wp.reports.statistics import wilson

ABSTAINED = -1
# Rows of the table, at most.
_ROWS = 10


@dataclasses.dataclass(frozen=True)
class SmoothedCertificate(Shown):
    """The result of `keras_wp.smoothing.certify`. Printing it shows a table.

    It speaks of the smoothed classifier, not of the model: attacks on the
    model say nothing of it.

    Attributes:
        radius: `(n,)`, the l2 radius of each image; 0 where it abstained.
        prediction: `(n,)`, the classes predicted; -1 where it abstained.
        labels: `(n,)`, the right classes.
        sigma: Standard deviation of the noise.
        alpha: Probability with which an image's radius is wrong, at most.
        n: How many noisy images the radius rests on.
    """

    radius: np.ndarray
    prediction: np.ndarray
    labels: np.ndarray
    sigma: float
    alpha: float
    n: int

    _last = "dim"

    def __len__(self):
        return len(self.radius)

    @property
    def abstained(self):
        """`(n,)` bool, where no class was likely enough."""
        return self.prediction == ABSTAINED

    def certified(self, eps):
        """Which images are classified correctly within eps: `(n,)` bool."""
        right = self.prediction == self.labels
        return right & (self.radius > eps) if eps else right

    def accuracy(self, eps=0.0):
        """Share of the images that are `certified` at eps in l2."""
        return float(self.certified(eps).mean())

    @property
    def note(self):
        """What it is about, and how sure it is."""
        return (
            "This is about the smoothed classifier, which predicts the class "
            "that the model returns most often under Gaussian noise of "
            f"deviation {self.sigma:g}, not about the model: attacks on the "
            "model do not bound it. Each radius holds with probability "
            f"{1 - self.alpha:g}; it rests on {self.n:,} noisy images."
        )

    @property
    def counts(self):
        """For some eps, how many images are `certified`: pairs.

        The eps are multiples of half of `sigma`, as far as any radius reaches.
        """
        steps = np.arange(1, _ROWS - 1) * self.sigma / 2
        told = [0.0, *steps[steps < self.radius.max()].tolist()]
        return [(eps, int(self.certified(eps).sum())) for eps in told]

    def _caption(self):
        return (
            f"{wording.number(len(self), 'image')}, smoothed with sigma "
            f"{self.sigma:g}; share in % with its 95 % interval"
        )

    def _rows(self):
        yield ["", "of the images"]
        for eps, right in self.counts:
            where = f"certified at l2 {wording.eps_text(eps)}"
            share = text.share(right, len(self))
            yield [where if eps else "right", share]
        yield ["abstained", text.share(int(self.abstained.sum()), len(self))]

    def _sentences(self):
        return [self.note]

    def _html(self):
        return smoothed_page(self, _chart(self))

    def _values(self):
        certified = [
            {
                "eps": eps,
                "accuracy": right / len(self),
                "confidence_interval": wilson(right, len(self)),
            }
            for eps, right in self.counts
        ]
        return {
            "about": self.note,
            "abstentions": int(self.abstained.sum()),
            "certified": certified,
            **vars(self),
        }


def _chart(found):
    """The accuracy of a certificate at each eps."""
    eps, right = charts.distance_curve(found.certified(0.0), found.radius)
    last = float(eps[-1])
    axes = charts.Axes(
        (0.0, 1.1 * last or 1.0),
        (0.0, 1.0),
        f"largest perturbation, eps ({wording.norm_text('l2')})",
        "images certified",
        y_text=lambda share: f"{100 * share:.0f} %",
    )
    xs = np.append(np.repeat(eps, 2)[1:], axes.x_range[1])
    line = axes.path(xs, np.repeat(right, 2) / len(found))
    curve = {"name": "Certified", "kind": "worst", "line": line}
    return {
        "axes": axes,
        "label": "Certified accuracy of the smoothed classifier against the "
        f"largest perturbation in l2, up to {last:.4g}",
        "curves": [curve],
    }
