"""A few images of an evaluation, on which an audit tries attacks."""

import dataclasses
import functools
import math

import numpy as np

from keras_wp import _checks, _noise
from keras_wp.attacks import APGD, PGD, adaptive
from keras_wp.engine import predict, stream
from keras_wp.engine.judge import FRESH_DRAWS, Judge
from keras_wp.reports import wording
from keras_wp.reports.findings import severity_of

# So many images for each question. Of 50 that stand for 60 % of the data, one
# is 1.2 points of accuracy: enough to see what is judged (`findings.HIGH`).
IMAGES = 50
# A change so small, as a share of the budget, that a model is about linear
# within it, and that an adversarial image met by chance tells of predictions
# that jump; and how often noise of that size is drawn.
SMALL, DRAWS = 0.05, 4
# For evaluations without an attack that follows a loss.
_STEPS = 40
# So many images of a sample, and a tenth of it, may lie next to a boundary
# without its meaning anything.
_BY_CHANCE = 2


@dataclasses.dataclass
class Subject:
    """What an audit knows of one norm and budget of an evaluation.

    Attributes:
        classifier: The `Classifier`.
        clean: The `Clean` pass.
        norm: The norm.
        eps: The budget.
        bounds: Lowest and highest value of a pixel.
        seed: The evaluation's seed.
        batch_size: How many images the device works on at a time.
        robust: `(n,)` bool, the images that no attack has fooled.
        rows: The `AttackResult`s in this norm, at any budget.
        attacks: The attacks asked for in this norm.
        adaptive: The adaptive attack with this budget, or None if none ran.
        blind: For each attack in this norm with this budget that follows
            gradients, `(n,)` bool: where it could not.
        surrogates: The surrogates that fit the model.
        draws: How many draws of a randomized model a gradient is taken of.
        images: By index, the images that it may try.
    """

    classifier: object
    clean: object
    norm: str
    eps: float
    bounds: tuple
    seed: int
    batch_size: int
    robust: np.ndarray
    rows: list
    attacks: list
    adaptive: object
    blind: list
    surrogates: tuple
    draws: int | None = None
    images: dict = dataclasses.field(default_factory=dict)

    @property
    def results(self):
        """The `AttackResult`s with this budget."""
        return [result for result in self.rows if result.eps == self.eps]

    @property
    def budget(self):
        """The norm and the budget, as text."""
        return wording.budget(self.norm, self.eps)

    @property
    def small_step(self):
        """How far each pixel moves in a change of `SMALL` of the budget."""
        length = SMALL * self.eps
        size = math.prod(self.clean.shape)
        return length / math.sqrt(size) if self.norm == "l2" else length

    @property
    def survivors(self):
        """Some of the images that no attack has fooled: indices."""
        return _spread(self.robust)

    @property
    def sample(self):
        """Some of the images that are classified correctly: indices."""
        return _spread(self.clean.correct)

    def by_chance(self, count):
        """Whether so few of `sample` may be chance."""
        return count <= min(_BY_CHANCE, len(self.sample) // 10)

    def share_of_survivors(self, count):
        """The share of all images that so many of `survivors` stand for."""
        tried = max(1, len(self.survivors))
        return float(count / tried * self.robust.mean())

    def share_of_sample(self, count):
        """The share of all images that so many of `sample` stand for."""
        tried = max(1, len(self.sample))
        return float(count / tried * self.clean.correct.mean())

    @property
    def strongest(self):
        """The result of the best attack asked for that follows a loss."""
        losses = [a.label for a in self.attacks if isinstance(a, (PGD, APGD))]
        results = [r for r in self.results if r.name in losses]
        return min(results, key=lambda r: r.robust_accuracy, default=None)

    @property
    def adapted(self):
        """Which images the adaptive attack has added to those fooled."""
        fooled = np.zeros_like(self.robust)
        for row in self.results:
            if self.adaptive is not None and row.name == self.adaptive.label:
                fooled |= row.attacked & ~row.robust
        return fooled

    @property
    def base(self):
        """The attack to begin with, where more effort is tried.

        The first of the adaptive ones, if they have found more than those
        asked for; or the attack of `strongest`; or PGD.
        """
        if severity_of(self.adapted.mean()) is not None:
            return self.adaptive.members[0]
        if self.strongest is None:
            return PGD(
                eps=self.eps, norm=self.norm, bounds=self.bounds, steps=_STEPS
            )
        (attack,) = [a for a in self.attacks if a.label == self.strongest.name]
        return dataclasses.replace(attack, eps=self.eps, name=None)

    @functools.cached_property
    def at_survivors(self):
        """Of `survivors`: images, labels, logits, and the margin's gradient."""
        x = np.stack([self.images[i] for i in self.survivors])
        labels = self.clean.labels[self.survivors]
        return x, labels, self.logits(x), self.gradients(x, labels)

    def pick(self, wanted):
        """Take in the images: a function from indices to `(index, image)`."""
        indices = sorted({*self.survivors, *self.sample})
        self.images = dict(wanted(indices))

    def run(self, attack, indices):
        """Which of these images an attack fools: `(len(indices),)` bool."""
        fooled, left = set(), list(indices)
        judge = None
        if self.draws is not None:
            attack = adaptive.expected(attack, self.draws)
            judge = Judge(self.classifier, FRESH_DRAWS)
        for part in attack.parts:
            images = self._stream(part, left)
            for outcome in stream.run(
                part,
                self.classifier,
                images,
                batch_size=self.batch_size,
                judge=judge,
            ):
                if outcome.success:
                    fooled.add(outcome.index)
            left = [i for i in indices if i not in fooled]
        return np.asarray([i in fooled for i in indices])

    def logits(self, x):
        """The model's logits at any number of points, on the host."""
        return predict.logits(self.classifier, x, self.batch_size)

    def gradients(self, x, labels):
        """The gradient of the margin at any number of points, on the host."""
        return predict.margin_gradients(
            self.classifier, x, labels, self.batch_size
        )

    def _stream(self, attack, indices):
        for i in indices:
            digest = self.clean.digests[i : i + 1]
            key = _noise.seeded(digest, self.seed, attack.seed)[0]
            image = self.clean.to_attack(i, self.images[i], key)
            if attack.wants_start:
                image = image._replace(start=image.x)
            yield image

    def evidence(self, **figures):
        """Figures, with the norm and the budget that they are about."""
        return {"norm": self.norm, "eps": self.eps, **figures}

    def radius(self, share):
        """A budget that is a share of the longest way between two images."""
        low, high = _checks.span(self.bounds)
        if self.norm == "linf":
            return share * (high - low)
        size = next(iter(self.images.values())).size
        return share * (high - low) * math.sqrt(size)


def _spread(mask):
    """Indices of at most `IMAGES` that are set, from first to last."""
    indices = np.flatnonzero(mask)
    if len(indices) > IMAGES:
        places = np.linspace(0, len(indices) - 1, IMAGES).round()
        indices = indices[places.astype(int)]
    return [int(i) for i in indices]
