"""A few images, with what each attack made of them."""

import dataclasses

import numpy as np

from keras_wp.evaluation import probe
from keras_wp.objectives import predicted


@dataclasses.dataclass(frozen=True)
class Attempt:
    """What an attack made of a sample, where it succeeded within its eps.

    Attributes:
        name: The attack's label.
        norm: The norm of its distances.
        distance: Length of the perturbation.
        predicted: The class that the model takes `image` for.
        image: The adversarial image, float32.
    """

    name: str
    norm: str
    distance: float
    predicted: int
    image: np.ndarray


@dataclasses.dataclass(frozen=True)
class Sample:
    """An image of the data, with what each attack made of it.

    Attributes:
        index: Its place in the data.
        label: Its class.
        image: The image itself, float32.
        attempts: An `Attempt` for each attack that succeeded.
        resisted: The labels of the attacks that failed, each with its norm
            where attacks in several norms share it.
    """

    index: int
    label: int
    image: np.ndarray
    attempts: tuple[Attempt, ...]
    resisted: tuple[str, ...]


def collect(keeper, kept, classifier, batch_size):
    """The report's samples.

    Args:
        keeper: The evaluation's `Keeper`.
        kept: For each attack, with its largest eps last, its `AttackResult`s
            and `Pictures`.
        classifier: The `Classifier`.
        batch_size: How many images go through the model at a time, at most.

    Returns:
        A tuple of `Sample`.
    """
    largest = {}
    for results, pictures in kept:
        result = results[-1]
        largest[result.name, result.norm] = (result, pictures)
    names = [name for name, _ in largest]
    images = dict(keeper.images(keeper.sampled))
    # Pictures may be of an earlier run, or lie outside of eps.
    found = {
        (i, key): pictures.get(keeper.identities[i])
        for i in images
        for key, (result, pictures) in largest.items()
        if result.attacked[i] and not result.robust[i]
    }
    classes = {}
    if found:
        x = np.stack(list(found.values()))
        logits = probe.logits_at(classifier, x, batch_size)
        classes = dict(zip(found, predicted(logits).tolist(), strict=True))
    return tuple(
        Sample(
            index=i,
            label=int(keeper.labels[i]),
            image=images[i],
            attempts=tuple(
                Attempt(
                    *key,
                    float(result.distance[i]),
                    classes[i, key],
                    found[i, key],
                )
                for key, (result, _) in largest.items()
                if (i, key) in found
            ),
            resisted=tuple(
                name if names.count(name) == 1 else f"{name} ({norm})"
                for (name, norm), (result, _) in largest.items()
                if result.robust[i]
            ),
        )
        for i in keeper.sampled
    )
