"""What one attack did, image by image."""

import dataclasses

import numpy as np

from keras_wp.reports.statistics import wilson


@dataclasses.dataclass(frozen=True)
class AttackResult:
    """What one attack did, within one budget, image by image.

    Attributes:
        name: The attack's label.
        norm: The norm that distances are measured in.
        eps: The budget, or None if any distance counts.
        attack: The attack's hyperparameters, as plain values.
        minimum_norm: Whether the attack looked for smallest perturbations.
        attacked: `(n,)` bool, which images were classified correctly at first.
        robust: `(n,)` bool, which of them still are.
        distance: `(n,)`, length of the perturbation; infinite where none
            succeeded.
        steps: `(n,)`, iterations spent.
        zero_gradients: `(n,)`, how many gradients were zero in every pixel.
        bad_gradients: `(n,)`, how many were not finite.
        seconds: Wall-clock time of the attack.
        denied: `(n,)` bool, where the attack claimed success and the model
            itself, called afresh, did not bear it out; None in reports that
            do not tell.
        predicted: `(n,)`, the class of what fooled the model; -1 elsewhere.
            None in reports that do not tell.
        in_bytes: `(n,)`, 1 where that image still fools the model when it is
            rounded to 256 levels, 0 where not, -1 where it is not known; None
            in reports that do not tell.
        call: The Python call that makes the attack again; None in reports
            that do not tell.
    """

    name: str
    norm: str
    eps: float | None
    attack: dict
    minimum_norm: bool
    attacked: np.ndarray
    robust: np.ndarray
    distance: np.ndarray
    steps: np.ndarray
    zero_gradients: np.ndarray
    bad_gradients: np.ndarray
    seconds: float
    denied: np.ndarray | None = None
    call: str | None = None
    predicted: np.ndarray | None = None
    in_bytes: np.ndarray | None = None

    @property
    def robust_accuracy(self):
        """Share of all images that are classified correctly in spite of it."""
        return float(self.robust.mean())

    @property
    def confidence_interval(self):
        """The 95 % Wilson interval of the robust accuracy."""
        return wilson(int(self.robust.sum()), len(self.robust))

    def within(self, eps):
        """Which images it fooled by a perturbation of at most `eps`: `(n,)`.

        Args:
            eps: A length; infinity counts every success.
        """
        found = np.isfinite(self.distance) & (self.distance <= eps)
        # A distance may be longer than eps by rounding.
        if self.eps is not None and self.eps <= eps:
            found = found | ~self.robust
        return self.attacked & found

    @property
    def survives_bytes(self):
        """Share of the adversarial images that fool the model in bytes, too.

        None if that is not known of any.
        """
        known = None if self.in_bytes is None else self.in_bytes >= 0
        if known is None or not known.any():
            return None
        return float(self.in_bytes[known].mean())

    @property
    def median_distance(self):
        """Median length of the perturbation over the attacked images.

        Images on which the attack failed count as infinitely far.
        """
        if not self.attacked.any():
            return float("nan")
        return float(np.median(self.distance[self.attacked]))

    @property
    def mean_steps(self):
        """Iterations spent for each attacked image, on average."""
        return float(self.steps.sum() / max(1, self.attacked.sum()))

    @property
    def vanished_gradients(self):
        """Share of the attacked images that met an all-zero gradient."""
        met = (self.zero_gradients > 0) & self.attacked
        return float(met.sum() / max(1, self.attacked.sum()))
