"""In which range a model takes pixels.

On the command line, images and budgets are those of pixels from 0 to 1, so
that `--eps 8/255` means the same for every model. Here the model is given what
it was made for, as said by `--bounds`, `--mean` and `--std`, or found by
`keras_wp.cli.ranges`.
"""

from typing import NamedTuple

from keras_wp._streams import in_levels
from keras_wp.cli import arguments

# What models are commonly made for.
USUAL = ((0.0, 1.0), (0.0, 255.0), (-1.0, 1.0))


class Pixels(NamedTuple):
    """What a model is given of a pixel `x` in [0, 1]: `(p - mean) / std`.

    There `p` is `low + (high - low) * x`.
    """

    low: float = 0.0
    high: float = 1.0
    mean: tuple = (0.0,)
    std: tuple = (1.0,)

    @property
    def bounds(self):
        """The lowest and the highest value of a pixel."""
        return self.low, self.high

    @property
    def inputs(self):
        """The same as a `keras_wp.Inputs`; None for pixels as they are."""
        from keras_wp.inputs import Inputs

        if self == Pixels():
            return None
        mean, std = (v[0] if len(v) == 1 else v for v in (self.mean, self.std))
        usual = (mean, std) == (0.0, 1.0)
        if usual:
            return Inputs(self.bounds)
        return Inputs(self.bounds, mean, std)

    def of(self, x):
        """Images in [0, 1] as the model takes them.

        In double precision, so that evaluations find the images that these
        were made of, bit by bit.
        """
        import numpy as np

        if self == Pixels():
            return x
        shape = (-1,) + (1,) * (x.ndim - 2) if _channels_first(x) else (-1,)
        mean, std = (np.reshape(v, shape) for v in (self.mean, self.std))
        pixels = self.low + (self.high - self.low) * x.astype(np.float64)
        return (pixels - mean) / std

    def __str__(self):
        text = f"[{self.low:g}, {self.high:g}]"
        if (self.mean, self.std) == ((0.0,), (1.0,)):
            return text
        mean, std = (
            ",".join(f"{value:g}" for value in values)
            for values in (self.mean, self.std)
        )
        return f"{text}, less {mean}, over {std}"


class Given:
    """Batches of images in [0, 1], as the model takes them."""

    def __init__(self, batches, pixels):
        self._batches, self._pixels = batches, pixels

    def __len__(self):
        return len(self._batches)

    def __iter__(self):
        return self.every(0, 1)

    def every(self, start, step):
        """See `_streams.Stream.every`."""
        for x, y in self._batches.every(start, step):
            yield self._pixels.of(x), y


def given(images, pixels):
    """The data as `evaluate` wants them for a model that takes `pixels`."""
    if isinstance(images.data, tuple):
        x, y = images.data
        return pixels.of(x), y
    return Given(images.data, pixels)


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
    if images.bounds is not None:
        return images
    x, y = images.data
    least, most = (float(bound) for bound in (x.min(), x.max()))
    given = () if args.bounds is None else (args.bounds,)
    # What lies in [0, 1] is no image of another range: it would be black.
    known = (USUAL[0], *(given or USUAL[1:]))
    for low, high in known:
        if low <= least and most <= high:
            x = in_levels((x.astype("float64") - low) / (high - low))
            return images._replace(data=(x, y), bounds=(low, high))
    raise ValueError(
        "The pixels must lie in "
        + " or ".join(f"[{low:g}, {high:g}]" for low, high in known)
        + ("" if given else " (else say --bounds LOW,HIGH)")
        + f", before any --mean and --std. Received: {least:g} to {most:g}"
    )


def _channels_first(x):
    import keras

    first = keras.config.image_data_format() == "channels_first"
    return first and x.ndim == 4
