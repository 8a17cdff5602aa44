"""A few images, with what each attack made of them."""

import dataclasses

import numpy as np

# A report shows so many images at most, and so many numbers in all of them
# and of what attacks made of them.
_SAMPLES = 10
_NUMBERS = 2_000_000


def room(size, attacks):
    """How many samples a report may have.

    Args:
        size: How many numbers an image consists of.
        attacks: How many attacks were asked for.
    """
    return min(_SAMPLES, _NUMBERS // max(1, size * (attacks + 1)))


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
