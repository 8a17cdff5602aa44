"""The range of pixels that a model was made for, where nobody says it.

Its first layers may tell, and so may the images that it classifies correctly.
"""

from keras_wp._units import Units
from keras_wp.audit import model_checks
from keras_wp.cli import files
from keras_wp.cli.pixels import USUAL, Pixels
from keras_wp.evaluation import ranges
from keras_wp.evaluation.data import Data
from keras_wp.inspection.ranges import takes_bytes
from keras_wp.inspection.view import View

# So many images tell.
_IMAGES = 256


def found(model, images, output=None):
    """The `Pixels` that suit a model; says so where that is a guess.

    What its first layers tell; or the first of the usual ranges, that of the
    data before all, in which it does not classify clearly fewer images
    correctly than in another.

    Args:
        model: A model that returns a value for each class.
        images: `Images` with pixels in [0, 1].
        output: Which output of several are the classes.

    Raises:
        ValueError: If no usual range makes the model better than chance.
    """
    own = Pixels(*images.bounds)
    usual = list(dict.fromkeys([own, *(Pixels(*bounds) for bounds in USUAL)]))
    if takes_bytes(model):
        return Pixels(*USUAL[1])
    x, y = ranges.first(Data(images.data), _IMAGES)
    judged = [_correct(model, pixels, x, y, output) for pixels in usual]
    if None in judged:
        return own
    classes = judged[0][1]
    right = {p: r for p, (r, _) in zip(usual, judged, strict=True)}
    most = max(right.values(), key=lambda r: r.sum())
    good = [p for p in usual if not ranges.clearly_better(most, right[p])]
    if any(model_checks.chance(most, classes)):
        raise ValueError(
            f"The model classifies {most.mean():.0%} of {len(x)} images "
            "correctly, as if by chance, whether pixels lie in "
            f"{', '.join(map(str, usual))}: say with --bounds (and --mean, "
            "--std) what it takes, or --bounds 0,1 to attack it as it is. "
            f"Received: {classes} classes and no --bounds"
        )
    shares = [f"{right[p].mean():.0%} in {p}" for p in usual]
    if good[0] != own or most.sum() > right[own].sum():
        files.note(
            f"pixels are given to the model in {good[0]}. Of {len(x)} images "
            f"it classifies correctly {', '.join(shares)}. Say --bounds if "
            "that is wrong."
        )
    return good[0]


def _correct(model, pixels, x, y, output):
    """Which images are classified correctly, and among how many classes.

    None if the model cannot be asked: `evaluate` then says why.
    """
    units = Units(Pixels().bounds, pixels.inputs, pixels.of(x))
    view = View(units, pixels.inputs, output)
    try:
        return ranges.correct(model, view, x, y, _IMAGES)
    except ValueError:
        return None
