"""In which range a model takes pixels.

On the command line, images and budgets are those of pixels from 0 to 1, so
that `--eps 8/255` means the same for every model. Here the model is given what
it was made for: as said by `--bounds`, `--mean` and `--std`; or as its first
layers tell; or as it classifies most images correctly.
"""

import math
from typing import NamedTuple

from keras_wp.cli import arguments, files, models

# What models are commonly made for. So many images tell which it is.
_USUAL = ((0.0, 1.0), (0.0, 255.0), (-1.0, 1.0))
_IMAGES = 256
# Layers that leave pixels in their range.
_PASSING = frozenset(
    ("InputLayer", "Resizing", "Reshape", "Permute", "ZeroPadding2D")
)


class Pixels(NamedTuple):
    """What a model is given of a pixel `x` in [0, 1]: `(p - mean) / std`.

    There `p` is `low + (high - low) * x`.
    """

    low: float = 0.0
    high: float = 1.0
    mean: tuple = (0.0,)
    std: tuple = (1.0,)

    @property
    def scale(self):
        """What `x` is multiplied with, for each channel."""
        return [(self.high - self.low) / std for std in self._channels[1]]

    @property
    def offset(self):
        """What is added then, for each channel."""
        mean, std = self._channels
        return [(self.low - m) / s for m, s in zip(mean, std, strict=True)]

    @property
    def _channels(self):
        count = max(len(self.mean), len(self.std))
        return [v * count if len(v) == 1 else v for v in (self.mean, self.std)]

    def __str__(self):
        text = f"[{self.low:g}, {self.high:g}]"
        if (self.mean, self.std) == ((0.0,), (1.0,)):
            return text
        mean, std = (
            ",".join(f"{value:g}" for value in values)
            for values in (self.mean, self.std)
        )
        return f"{text}, less {mean}, over {std}"


def add_options(command):
    """What may be said of pixels."""
    add = command.add_argument
    add(
        "--bounds",
        metavar="LOW,HIGH",
        type=arguments.bounds,
        help="the range of pixels that the model takes, such as 0,255 or -1,1 "
        "(default: what the model tells; --eps is for pixels from 0 to 1 "
        "in any case)",
    )
    add(
        "--mean",
        metavar="NUMBERS",
        type=arguments.channels,
        help="what is subtracted from pixels within --bounds before the model "
        "sees them, a number or one for each channel",
    )
    add(
        "--std",
        metavar="NUMBERS",
        type=arguments.channels,
        help="what they are divided by then",
    )


def check(args):
    """What can be found wrong before anything is loaded."""
    if min(args.std or (1.0,)) <= 0:
        raise ValueError(
            "--std must be numbers above 0. Received: "
            f"{','.join(f'{value:g}' for value in args.std)}"
        )
    lengths = {len(v) for v in (args.mean, args.std) if v and len(v) > 1}
    if len(lengths) > 1:
        raise ValueError(
            "--mean and --std must have as many numbers as there are channels. "
            f"Received: {len(args.mean)} and {len(args.std)}"
        )


def asked(args):
    """The `Pixels` that the arguments ask for, or None."""
    given = (args.bounds, args.mean, args.std)
    if given == (None, None, None):
        return None
    low, high = args.bounds or (0.0, 1.0)
    return Pixels(low, high, args.mean or (0.0,), args.std or (1.0,))


def unit(images, args):
    """The images with pixels from 0 to 1.

    Raises:
        ValueError: If arrays of unknown range lie in none that is usual.
    """
    import numpy as np

    if images.bounds is not None:
        return images
    x, y = images.data
    least, most = (float(bound) for bound in (x.min(), x.max()))
    given = () if args.bounds is None else (args.bounds,)
    # What lies in [0, 1] is no image of another range: it would be black.
    known = (_USUAL[0], *(given or _USUAL[1:]))
    for low, high in known:
        if low <= least and most <= high:
            x = (x.astype(np.float32) - low) / np.float32(high - low)
            data = (np.clip(x, 0, 1), y)
            return images._replace(data=data, bounds=(low, high))
    raise ValueError(
        "The pixels must lie in "
        + " or ".join(f"[{low:g}, {high:g}]" for low, high in known)
        + ("" if given else " (else say --bounds LOW,HIGH)")
        + f", before any --mean and --std. Received: {least:g} to {most:g}"
    )


def found(model, images):
    """The `Pixels` that suit a model; says so where that is a guess.

    What its first layers tell; or the first of the usual ranges, that of the
    data before all, in which it does not classify clearly fewer images
    correctly than in another.

    Args:
        model: A model that returns a value for each class.
        images: `Images` with pixels in [0, 1].

    Raises:
        ValueError: If no usual range makes the model better than chance.
    """
    own = Pixels(*images.bounds)
    usual = list(dict.fromkeys([own, *(Pixels(*bounds) for bounds in _USUAL)]))
    x, y = _sample(images)
    if told := _told(model):
        return told
    judged = [_correct(model, pixels, x, y) for pixels in usual]
    if None in judged:
        return own
    classes = judged[0][1]
    right = {p: r for p, (r, _) in zip(usual, judged, strict=True)}
    most = max(right.values(), key=lambda r: r.sum())
    good = [p for p in usual if not _clearly_more(most, right[p])]
    if at_chance(int(most.sum()), len(x), classes):
        raise ValueError(
            f"The model classifies {most.mean():.0%} of {len(x)} images "
            "correctly, as if by chance, whether pixels lie in "
            f"{', '.join(map(str, usual))}: say with --bounds (and --mean, "
            "--std) what it takes, or --bounds 0,1 to attack it as it is. "
            f"Received: {classes} classes and no --bounds"
        )
    shares = [f"{right[p].mean():.0%} in {p}" for p in usual]
    if good != [own]:
        files.note(
            f"pixels are given to the model in {good[0]}. Of {len(x)} images "
            f"it classifies correctly {', '.join(shares)}. Say --bounds if "
            "that is wrong."
        )
    return good[0]


def _clearly_more(one, other):
    """Whether one of two is right on more of the same images, beyond chance."""
    gained, lost = int((one & ~other).sum()), int((other & ~one).sum())
    return gained - lost > 2 * math.sqrt(gained + lost)


def at_chance(correct, images, classes):
    """Whether guessing may well classify as many images correctly."""
    expected = images / classes
    return correct <= expected + 2 * math.sqrt(expected * (1 - 1 / classes))


def taking(model, pixels):
    """The model, for images in [0, 1]."""
    if pixels == Pixels():
        return model
    import keras

    scale, offset = pixels.scale, pixels.offset
    if len(scale) == 1:
        (scale,), (offset,) = scale, offset
    rescale = keras.layers.Rescaling(scale, offset, name="pixels")
    if not isinstance(model, keras.layers.Layer):
        return _Rescaled(model, rescale)
    shape = models.image_shape(model)
    if not shape:
        return _Rescaled(model, rescale)
    inputs = keras.Input(shape)
    return keras.Model(inputs, model(rescale(inputs)), name=model.name)


class _Rescaled:
    """A callable behind a layer that scales what it is given."""

    def __init__(self, model, rescale):
        self._model, self._rescale = model, rescale
        self.name = model.name
        self.variables = getattr(model, "variables", [])
        self.differentiable = getattr(model, "differentiable", True)

    def __call__(self, x):
        return self._model(self._rescale(x))


def _sample(images):
    """The first images and labels."""
    import numpy as np

    if isinstance(images.data, tuple):
        x, y = (part[:_IMAGES] for part in images.data)
    else:
        x, y = next(iter(images.data))
    y = np.asarray(y)
    if y.ndim == 2:
        y = y[:, 0] if y.shape[1] == 1 else y.argmax(-1)
    return (x, y) if len(x) else (None, None)


def _correct(model, pixels, x, y):
    """Which images are classified correctly, and among how many classes.

    None if the model does not return a value for each class: `evaluate` then
    says what it makes of that.
    """
    import numpy as np

    from keras_wp.engine import predict
    from keras_wp.inspection.classifier import Classifier

    given = pixels.scale * x + np.asarray(pixels.offset, np.float32)
    try:
        given = given.astype(np.float32)
        outputs = predict.logits(Classifier(model), given, _IMAGES)
    except ValueError:
        return None
    if outputs.ndim != 2:
        return None
    if outputs.shape[1] > 1:
        return outputs.argmax(-1) == y, outputs.shape[1]
    likely = outputs.min() >= 0 and outputs.max() <= 1
    return (outputs[:, 0] > (0.5 if likely else 0)) == y, 2


def _told(model):
    """The range that the first layers of a model are made for, or None."""
    layers = [model]
    while layers:
        first, *layers = layers
        kind = type(first).__name__
        if kind == "Rescaling":
            reach = 255 * max(_plain(first.scale))
            # To [0, 1], to [-1, 1], or to a few standard deviations.
            return Pixels(*_USUAL[1 if reach <= 10 else 0])
        if kind == "Normalization":
            mean = getattr(first, "input_mean", None)
            if mean is None:
                return None
            return Pixels(*_USUAL[1 if max(_plain(mean)) > 2 else 0])
        inner = getattr(first, "layers", None)
        if isinstance(inner, list):
            layers = [*inner, *layers]
        elif kind not in _PASSING and not kind.startswith("Random"):
            return None
    return None


def _plain(values):
    import numpy as np

    return np.abs(np.asarray(values, np.float64)).ravel().tolist()
