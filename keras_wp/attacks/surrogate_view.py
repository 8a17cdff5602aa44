"""A model as an attack sees it that follows a surrogate."""

import dataclasses

from keras import ops

from keras_wp import _noise
from keras_wp.inspection.stand_ins import with_gradient_of


class View:
    """A model with the gradient of a surrogate: images to logits."""

    def __init__(self, surrogate, model, deviation, bounds):
        self._surrogate = surrogate
        self._model = model
        self._deviation = deviation
        self._bounds = bounds

    def __call__(self, x):
        surrogate = self._surrogate
        if surrogate.model is not None:
            path = self._model.beside(surrogate.stand_in)
        else:
            path = self._model.copied(surrogate.copies)
            path = path.through(surrogate) if surrogate.inside else path
        found = self._mean(path, x)
        exact = surrogate.model is None and not surrogate.noisy
        return found if exact else with_gradient_of(self._model(x), found)

    def cut(self):
        """The model's two halves, the first with the surrogate's gradient."""
        if self._surrogate.model is not None:
            raise ValueError(
                "A loss of the features needs the model's own gradient, or "
                "that of a surrogate of what is inside. Received: a surrogate "
                "by another model"
            )
        halves = self._model.cut(self._surrogate)
        own = self._model.cut().features if self._surrogate.noisy else None

        def seen(x):
            found = self._mean(halves.features, x)
            return with_gradient_of(own(x), found) if own else found

        return dataclasses.replace(halves, features=seen)

    def _mean(self, path, x):
        """What a path through the model gives, on average over copies."""
        count = self._surrogate.copies
        if count == 1:
            return path(x)
        copies = ops.repeat(x, count, axis=0)
        if self._surrogate.noisy:
            # Other noise at each point, and the same for a point.
            keys = _noise.image_keys(ops.stop_gradient(x))
            keys = ops.repeat(keys, count, axis=0)
            which = ops.tile(
                ops.arange(count, dtype="int32"), [ops.shape(x)[0]]
            )
            noise = _noise.normal(_noise.fold_in(keys, which), x.shape[1:])
            # Beyond the bounds a model need not be defined; the gradient is
            # passed on there as well.
            moved = ops.clip(copies + self._deviation * noise, *self._bounds)
            copies = with_gradient_of(moved, copies)
        found = path(copies)
        found = ops.reshape(found, (-1, count, found.shape[-1]))
        return ops.mean(found, axis=1)


def sites_of(surrogate, opened, model):
    """The sites of an `Opened` whose gradient a surrogate changes.

    Raises:
        ValueError: If there is none.
    """
    if opened.anatomy is None:
        raise ValueError(
            "A surrogate of what is inside a model needs one that can be "
            f"opened. Received: a {type(model).__name__} that cannot "
            f"({'; '.join(opened.why)})"
        )
    last = (opened.last,) if opened.last else ()
    sites = opened.masks if surrogate.at == "every" else last
    if not sites:
        what = (
            "an operation that loses gradients"
            if surrogate.at == "every"
            else "an activation"
        )
        raise ValueError(
            f"The model must have {what}, for a surrogate of it. "
            f"Received: a model of type {type(model).__name__} where none "
            "was found"
        )
    return sites
