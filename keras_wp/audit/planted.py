"""Adversarial examples that exist by construction, for attacks to find.

For an image, a read-out of two classes is put on the model's own features, so
that one point of the ball around the image is adversarial, and random points
are not. An attack that works on the model finds one, as the features say where
to go. One that is led astray by what lies before the features does not, and
what it leaves as robust says nothing about the model.

Source: Zimmermann, Brendel, Tramèr and Carlini, "Increasing confidence in
adversarial robustness evaluations" (NeurIPS 2022). There the read-out is
trained; here it is the linear discriminant of the planted point from random
ones, in closed form.
"""

import dataclasses

import numpy as np
from keras import ops

from keras_wp import _backend, _noise, norms
from keras_wp.engine import predict, stream
from keras_wp.inspection import features
from keras_wp.inspection.anatomy import ending
from keras_wp.inspection.classifier import Classifier
from keras_wp.reports.findings import Finding, severity_of
from keras_wp.reports.statistics import wilson

# So many images get one, and so many random points keep a read-out from
# finding adversarial what is not: some to make it, others to check it.
IMAGES, INNER, CHECKED = 32, 64, 128
# Tries with other points, where random ones come too near.
_TRIES = 3
# The read-out's boundary lies at this share of the way from the random point
# that comes nearest to the planted one.
_PLACE = 0.7
# With fewer there is no telling; and an attack that finds a smaller share does
# not work on the model. On models that are not masked, all are found.
FEWEST, ENOUGH = 8, 0.8
# Classes beyond the two, which losses of four classes want, and no point
# reaches.
_OTHERS = (-10.0, -11.0)
_RIDGE = 1e-3


@dataclasses.dataclass(frozen=True)
class Plants:
    """The examples that are planted.

    Attributes:
        readouts: The `ReadOuts` to attack.
        images: The `engine.Image`s.
        points: The planted points, `(n, ...)`.
        of_features: Whether the read-outs sit on the model's features;
            otherwise on its logits.
        tried: How many images there were to plant one at.
    """

    readouts: object
    images: tuple
    points: np.ndarray
    of_features: bool
    tried: int

    def found_by(self, attack, batch_size):
        """For how many of the images an attack finds an adversarial point.

        Attacks that look for the smallest perturbation, or follow what a
        read-out does not have, find none.
        """
        left = {image.index: image for image in self.images}
        for part in attack.parts:
            if not left or not _applies(part):
                continue
            images = left.values()
            if part.wants_start:
                images = [image._replace(start=image.x) for image in images]
            for outcome in stream.run(
                dataclasses.replace(part, name=None),
                self.readouts,
                images if part.wants_start else list(images),
                batch_size=batch_size,
            ):
                if outcome.success:
                    del left[outcome.index]
        return len(self.images) - len(left)


def _applies(part):
    """Whether an attack can be run on read-outs."""
    stand_in = part.surrogate is not None and part.surrogate.model is not None
    return not (part.minimum_norm or part.reads_features or stand_in)


def planted(subject):
    """Findings about which planted examples the attacks find.

    Args:
        subject: A `Subject`.
    """
    if subject.draws is not None:
        yield Finding(
            "info",
            "No adversarial examples were planted, as the model is randomized.",
            subject.evidence(planted=0),
            "planted",
        )
        return
    x = np.stack([subject.images[i] for i in subject.sample[:IMAGES]])
    budget = subject.norm, subject.eps, subject.bounds
    subject.classifier.open(x)
    plants = plant(
        subject.classifier, x, budget, subject.batch_size, subject.seed
    )
    count = len(plants.images)
    where = "features" if plants.of_features else "logits"
    attacks = [
        dataclasses.replace(attack, eps=subject.eps, name=attack.label)
        for attack in subject.attacks
        if any(map(_applies, attack.parts))
    ]
    attacks += [subject.adaptive] if subject.adaptive is not None else []
    if count < FEWEST or not attacks:
        yield Finding(
            "info",
            f"Adversarial examples could be planted at {count} of {len(x)} "
            f"images, by read-outs of the model's {where}, and "
            f"{len(attacks)} attacks could look for them.",
            subject.evidence(planted=count, images=len(x), read_outs=where),
            "planted",
        )
        return
    found = {a.label: plants.found_by(a, subject.batch_size) for a in attacks}
    evidence = subject.evidence(
        planted=count, images=len(x), read_outs=where, found=found
    )
    name, best = max(found.items(), key=lambda item: item[1])
    told = f"Of {count} examples planted by read-outs of the {where}, found: "
    told += "; ".join(
        f"{label} {k} ({interval(k, count)})" for label, k in found.items()
    )
    weak = [label for label, k in found.items() if k < ENOUGH * count]
    if severity_of(float(subject.robust.mean())) is None or not weak:
        yield Finding("info", f"{told}.", evidence, "planted")
    elif best < ENOUGH * count:
        yield Finding(
            "high",
            f"{told}. Adversarial examples that are known to be there are not "
            f"found by {name}, so that nothing follows from its not finding "
            "any of the model.",
            evidence,
            "planted",
        )
    else:
        yield Finding(
            "warning",
            f"{told}. What {', '.join(weak)} did not find says nothing about "
            "the model.",
            evidence,
            "planted",
        )


def interval(found, count):
    """The 95 % Wilson interval of a share, as text."""
    low, high = wilson(found, count)
    return f"{100 * low:.0f}-{100 * high:.0f} %"


def plant(classifier, x, budget, batch_size, seed=0):
    """Plant an adversarial example at each of some images, if that can be.

    Args:
        classifier: The `Classifier`, opened.
        x: The images, `(n, ...)` float32.
        budget: The norm, its eps, and the lowest and highest value of a pixel
            as a pair.
        batch_size: How many images a device works on at a time, at most.
        seed: An integer.

    Returns:
        `Plants`.
    """
    anatomy = classifier.opened and classifier.opened.anatomy
    of_features = bool(anatomy and ending(anatomy)[1])
    readouts = ReadOuts(classifier, of_features)
    program = readouts.features_program(x.shape[1:])
    size = _backend.preferred_slots(batch_size)
    rng = np.random.default_rng(seed)
    images, points = [], []
    for place, image in enumerate(x):
        for _ in range(_TRIES):
            cloud = _around(image, budget, rng)
            values = predict.forward(program, cloud, size).astype(np.float64)
            readout = _discriminant(values)
            if readout is not None:
                break
        else:
            continue
        logits = np.asarray([0.0, -1.0, *_OTHERS], np.float32)
        images.append(
            stream.Image(
                place,
                image,
                0,
                1,
                _noise.image_digests(image[None])[0],
                logits,
                extra=readout,
            )
        )
        points.append(cloud[1])
    points = np.stack(points) if points else x[:0]
    return Plants(readouts, tuple(images), points, of_features, len(x))


def _around(image, budget, rng):
    """The image, a point to plant, and random ones, all within the ball."""
    norm, eps, bounds = budget
    count = 1 + INNER + CHECKED
    corners = rng.choice([-1.0, 1.0], (count, *image.shape))
    inside = rng.uniform(-1.0, 1.0, (count, *image.shape))
    # Every other one at the ball's corners, where attacks end.
    odd = np.arange(count) % 2 == 0
    odd = odd.reshape(-1, *[1] * image.ndim)
    delta = np.where(odd, corners, inside)
    if norm != "linf":
        axes = tuple(range(1, delta.ndim))
        length = np.sqrt(np.square(delta).sum(axes, keepdims=True))
        delta = delta / length
    points = (image + eps * delta).astype(np.float32).clip(*bounds)
    delta = ops.convert_to_numpy(norms.get(norm).project(points - image, eps))
    points = (image + delta).astype(np.float32).clip(*bounds)
    return np.concatenate([image[None], points])


def _discriminant(values):
    """Weights `(P,)` and an offset that single out the planted point's values.

    Args:
        values: `(m, P)`: of the image, the planted point, and random points.

    Returns:
        `(weights, offset)` in float32, so that `values @ weights + offset` is
        -1 at the image and above 0 at the planted point, and below at all
        random ones; None if there are none such.
    """
    clean, planted, random = values[0], values[1], values[2:]
    made = np.concatenate([clean[None], random[:INNER]])
    middle = made.mean(0)
    centered = made - middle
    # In the space of the points, which are fewer than the features may be.
    gram = centered @ centered.T
    ridge = _RIDGE * np.trace(gram) / len(gram)
    away = planted - middle
    if not np.isfinite(values).all() or ridge <= 0:
        # Nothing moves: any change would be one to single out.
        weights = away
    else:
        inner = np.linalg.solve(
            gram + ridge * np.eye(len(gram)), centered @ away
        )
        weights = away - centered.T @ inner
    heights = (values - middle) @ weights
    highest = max(heights[0], heights[2:].max())
    boundary = highest + _PLACE * (heights[1] - highest)
    depth = boundary - heights[0]
    rounding = 1e-4 * np.abs(values).max() * np.abs(weights).max()
    if not (heights[1] - highest > rounding and depth > 0):
        return None
    offset = (-boundary - middle @ weights) / depth
    weights = (weights / depth).astype(np.float32)
    exact = values.astype(np.float32) @ weights + np.float32(offset)
    if not (exact[1] > 0 and exact[0] < 0 and exact[2:].max() < 0):
        return None
    return weights, np.asarray(offset, np.float32)


class ReadOuts(Classifier):
    """A `Classifier` of which each image has a read-out of its own.

    Args:
        classifier: The model's `Classifier`.
        of_features: Whether read-outs are of the model's features; otherwise
            of its logits.
    """

    def __init__(self, classifier, of_features):
        super().__init__(classifier.model)
        self.opened = classifier.opened
        self._classifier = classifier
        self._of_features = of_features

    def compile(self, key, make, more_variables=lambda: ()):
        """As that of the classifier, under another name."""
        key = ("planted", self._of_features, key)
        return self._classifier.compile(key, make, more_variables)

    def values(self, surrogate=None, copies=1):
        """Maps images to what read-outs see, with a surrogate's gradient."""
        classifier = self._classifier.copied(copies)
        if self._of_features:
            opened, instead = classifier.opened, {}
            if surrogate is not None:
                instead = surrogate.instead(opened, classifier.model)
            halves = features.cut(classifier.model, opened.anatomy, instead)
            return halves.features
        return (
            classifier if surrogate is None else classifier.through(surrogate)
        )

    def features_program(self, shape):
        """The compiled function from images to what read-outs see."""
        self._classifier.build(shape)
        return self.compile(("values", shape), lambda: self.values())

    def given(self, extra):
        """The model with the read-outs of a batch of images."""
        return _Given(self, extra, 1)


class _Given:
    """Images to the logits of their read-outs."""

    def __init__(self, readouts, extra, copies):
        self._readouts = readouts
        self._extra = extra
        self._copies = copies

    @property
    def opened(self):
        return self._readouts.opened

    @property
    def model(self):
        return self._readouts.model

    def copied(self, count):
        return _Given(self._readouts, self._extra, count)

    def __call__(self, x):
        return self._read(self._readouts.values(), x)

    def through(self, surrogate):
        values = self._readouts.values(surrogate)
        return lambda x: self._read(values, x)

    def _read(self, values, x):
        weights, offset = self._extra
        if self._copies > 1:
            weights = ops.repeat(weights, self._copies, axis=0)
            offset = ops.repeat(offset, self._copies, axis=0)
        found = ops.sum(values(x) * weights, axis=-1) + offset
        zeros = ops.zeros_like(found)
        others = [zeros + value for value in _OTHERS]
        return ops.stack([zeros, found, *others], axis=-1)
