"""What a worker does: load the model once, and attack chunks of images."""

import dataclasses
import importlib.metadata
import pathlib
import tempfile
from typing import NamedTuple

import keras
import numpy as np

from keras_wp._version import __version__
from keras_wp.engine import stream
from keras_wp.engine.judge import FRESH_DRAWS, Judge
from keras_wp.inspection.classifier import Classifier
from keras_wp.inspection.description import digest
from keras_wp.inspection.ensemble import Ensemble
from keras_wp.inspection.view import View


def versions():
    """What must be the same on all machines, by name."""
    backend = keras.backend.backend()
    return {
        "keras_wp": __version__,
        "keras": keras.__version__,
        backend: importlib.metadata.version(backend),
    }


@dataclasses.dataclass(frozen=True)
class Setup:
    """What every worker is given at first.

    Attributes:
        model: What `packed` returns, or a function that makes the model.
        view: The arguments of the model's `View`.
        images: A few images `(m, ...)`, to see the model with.
        noise: An image of noise `(1, ...)`, to tell models apart.
        digest: The model's digest on the driver.
        versions: Those of the driver.
        batch_size: How many images are worked on at a time, at most.
        randomized: Whether the model is.
    """

    model: object
    view: tuple
    images: np.ndarray
    noise: np.ndarray
    digest: str
    versions: dict
    batch_size: int
    randomized: bool


class Packed(NamedTuple):
    """A Keras model that can be sent.

    Attributes:
        file: The bytes of its `.keras` file.
        own: Classes and functions that no worker could import, as they are
            those of the driver's script or notebook, by Keras's names.
    """

    file: bytes
    own: dict


def packed(model):
    """A Keras model as `Packed`; or a list, of each.

    Raises:
        ValueError: If it cannot be saved.
    """
    if isinstance(model, Ensemble):
        model = [member.model for member in model.members]
    if isinstance(model, (list, tuple)) and model:
        return [packed(each) for each in model]
    if not isinstance(model, keras.Model):
        raise ValueError(
            "A cluster needs a Keras model that can be saved, or a function "
            "that makes the model on each worker: cluster=keras_wp.cluster.Ray("
            f"make_model=...). Received: model={model!r}"
        )
    known = [*keras.saving.get_custom_objects().values()]
    known += {type(layer) for layer in model._flatten_layers()}
    own = {
        keras.saving.get_registered_name(each): each
        for each in known
        if getattr(each, "__module__", None) == "__main__"
    }
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.keras"
        model.save(path)
        return Packed(path.read_bytes(), own)


class Worker:
    """One process with a model, which attacks what it is given.

    Args:
        setup: A `Setup`.

    Raises:
        ValueError: If it has other versions, or the model is another here.
    """

    def __init__(self, setup):
        check_versions(setup.versions)
        self._setup = setup
        self._model = made(setup.model)  # The classifier holds it weakly.
        self._classifier = Classifier(self._model, View(*setup.view))
        self._classifier.settle(setup.images)
        found = digest(self._classifier, setup.noise)
        if found != setup.digest:
            raise ValueError(
                "Every worker must have the model and the weights of the "
                f"driver. Received: the digest {found} on a worker, and "
                f"{setup.digest} on the driver"
            )

    def ready(self):
        """Whether the worker has begun."""
        return True

    def attack(self, part, chunk):
        """Run a part of an attack on images.

        Args:
            part: The attack.
            chunk: A list of `engine.slots.Image`s.

        Returns:
            A list of `Outcome`s. Images without success are left out of them,
            as nobody asks for these.
        """
        draws = FRESH_DRAWS if self._setup.randomized else None
        found = stream.run(
            part,
            self._classifier,
            chunk,
            batch_size=self._setup.batch_size,
            judge=Judge(self._classifier, draws),
        )
        nothing = np.zeros(0, np.float32)
        return [
            outcome if outcome.success else outcome._replace(x_adv=nothing)
            for outcome in found
        ]


def check_versions(wanted):
    """Raise a ValueError unless the versions here are those of the driver."""
    found = versions()
    if found != wanted:
        told = [
            ", ".join(f"{name} {version}" for name, version in side.items())
            for side in (found, wanted)
        ]
        raise ValueError(
            "Every worker must have the versions of the driver. Received: "
            f"{told[0]} on a worker, and {told[1]} on the driver"
        )


def made(model):
    """The model that was `packed`, or that a function makes."""
    if callable(model):
        return model()
    if not isinstance(model, Packed):
        return [made(each) for each in model]
    for name, each in model.own.items():
        package, registered, name = name.rpartition(">")
        if registered:
            keras.saving.register_keras_serializable(package, name)(each)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.keras"
        path.write_bytes(model.file)
        try:
            return keras.saving.load_model(path, model.own, compile=False)
        except Exception as error:
            # Keras raises whatever a layer's constructor does.
            raise ValueError(
                "The model could not be loaded on a worker: register what is "
                "your own, with keras.saving.register_keras_serializable, or "
                "give a function that makes the model, "
                "cluster=keras_wp.cluster.Ray(make_model=...). "
                f"Received: {type(error).__name__}: {str(error)[:200]}"
            ) from None
