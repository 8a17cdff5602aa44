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
from keras_wp.audit.read_outs import (
    CHECKED,
    INNER,
    OTHERS,
    ReadOuts,
    discriminant,
)
from keras_wp.engine import predict, stream
from keras_wp.inspection.anatomy import ending
from keras_wp.reports.findings import Finding, severity_of
from keras_wp.reports.statistics import wilson

# So many images get one.
IMAGES = 32
# Tries with other points, where random ones come too near.
_TRIES = 3
# With fewer there is no telling; and an attack that finds a smaller share does
# not work on the model. On models that are not masked, all are found.
FEWEST, ENOUGH = 8, 0.8


@dataclasses.dataclass(frozen=True)
class Plants:
    """The examples that are planted.

    Attributes:
        readouts: The `ReadOuts` to attack.
        images: The `engine.Image`s.
        points: The planted points, `(n, ...)`.
        of_features: Whether the read-outs sit on the model's features;
            otherwise on its logits.
    """

    readouts: object
    images: tuple
    points: np.ndarray
    of_features: bool

    def found_by(self, attack, batch_size):
        """For how many of the images an attack finds an adversarial point.

        Attacks that look for the smallest perturbation, or follow what a
        read-out does not have, find none.
        """
        left = {image.index: image for image in self.images}
        for part in attack.parts:
            if not left or not _applies(part):
                continue
            images = list(left.values())
            if part.wants_start:
                images = [image._replace(start=image.x) for image in images]
            for outcome in stream.run(
                dataclasses.replace(part, name=None),
                self.readouts,
                images,
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
    evidence = subject.evidence(
        planted=count, images=len(x), read_outs=where, attacks=len(attacks)
    )
    if count >= FEWEST and attacks:
        evidence["found"] = {
            a.label: plants.found_by(a, subject.batch_size) for a in attacks
        }
    yield judged(evidence, float(subject.robust.mean()))


def judged(evidence, left):
    """The finding about planted examples, of the figures about them.

    Args:
        evidence: A dictionary of how many were `planted`, at so many `images`,
            with what `read_outs`, how many `attacks` could look for them, and,
            if they were looked for, by how many `found` each of them: pairs of
            label and number.
        left: The robust accuracy that is left.
    """
    count, where = evidence["planted"], evidence["read_outs"]
    found = evidence.get("found")
    if found is None:
        return Finding(
            "info",
            "The attacks were not tested on adversarial examples known to "
            f"exist: such could be made at {count} of {evidence['images']} "
            f"images, with the model's {where}, and {evidence['attacks']} "
            "attacks could look for them.",
            evidence,
            "planted",
        )
    name, best = max(found.items(), key=lambda item: item[1])
    told = (
        f"A test of the attacks on {count} adversarial examples known to exist "
        f"(planted with the model's {where}). Found by "
    )
    told += "; ".join(
        f"{label}: {k} ({interval(k, count)})" for label, k in found.items()
    )
    weak = [label for label, k in found.items() if k < ENOUGH * count]
    if severity_of(left) is None or not weak:
        return Finding("info", f"{told}.", evidence, "planted")
    if best < ENOUGH * count:
        return Finding(
            "high",
            f"{told}. Adversarial examples that are known to be there are not "
            f"found by {name}, so that nothing follows from its not finding "
            "any of the model.",
            evidence,
            "planted",
        )
    return Finding(
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
            readout = discriminant(values)
            if readout is not None:
                break
        else:
            continue
        logits = np.asarray([0.0, -1.0, *OTHERS], np.float32)
        images.append(
            stream.Image(
                index=place,
                x=image,
                y=0,
                target=1,
                key=_noise.image_digests(image[None])[0],
                clean_logits=logits,
                extra=readout,
            )
        )
        points.append(cloud[1])
    points = np.stack(points) if points else x[:0]
    return Plants(readouts, tuple(images), points, of_features)


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
