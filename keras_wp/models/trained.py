"""Networks that were trained to resist attacks, with the package.

Each has a card beside its weights: what it was trained on and how, and what it
has withstood. `python -m keras_wp.experiments weights` has made them.
"""

import importlib.resources
import json

import keras

_FOLDER = importlib.resources.files("keras_wp.models") / "weights"
# The names that `pretrained` knows.
PRETRAINED = tuple(
    sorted(
        item.name.removesuffix(".keras")
        for item in _FOLDER.iterdir()
        if item.name.endswith(".keras")
    )
)


def pretrained(name):
    """A network that was trained to resist attacks.

    It comes with the package: nothing is downloaded. `card(name)` says what
    it was trained on, and which accuracy it has under attack. A network that
    was trained on MNIST has seen all images of the set `"mnist5k"`: test it on
    the test images of `"mnist"`.

    Args:
        name: One of `keras_wp.models.PRETRAINED`, such as
            `"mnist-small-cnn-linf-0.3"`: the data set, the network, and the
            norm and the budget it was trained for.

    Returns:
        A `keras.Model` from images in [0, 1] to logits, not compiled.

    Raises:
        ValueError: If there is no such network.

    Example:

    >>> model = keras_wp.models.pretrained("mnist-small-cnn-linf-0.3")
    >>> model.output_shape
    (None, 10)
    """
    with importlib.resources.as_file(_file(name, ".keras")) as path:
        return keras.saving.load_model(path, compile=False)


def card(name):
    """How a network of `pretrained` was made, and what it withstands.

    Args:
        name: As for `pretrained`.

    Returns:
        A dictionary: `data`, `recipe`, `command`, `versions`, `seed`, `date`,
        and so on; `clean`, `worst_case` and each of the `attacks` have the
        `accuracy`, from 0 to 1, and its 95 % `interval`.

    Raises:
        ValueError: If there is no such network.

    Example:

    >>> card = keras_wp.models.card("mnist-small-cnn-linf-0.3")
    >>> card["data"]
    'mnist'
    """
    return json.loads(_file(name, ".json").read_text("utf-8"))


def _file(name, suffix):
    if name not in PRETRAINED:
        raise ValueError(
            "Invalid value for argument `name`. Expected one of "
            f"{', '.join(PRETRAINED)}. Received: name={name!r}"
        )
    return _FOLDER / f"{name}{suffix}"
