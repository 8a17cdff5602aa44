"""The balls that perturbations live in.

A norm is a value with the operations that attacks need. Perturbations are
tensors whose first axis is the image; every operation treats each image by
itself. `norms.get("linf")` and `norms.get("l2")` return the two norms.
"""

import abc
import math

from keras import ops

from keras_wp import _backend, _checks, _noise


def _axes(x):
    return tuple(range(1, len(x.shape)))


def per_image(values, like):
    """Reshape one value per image, `(N,)`, to broadcast against `like`."""
    return ops.reshape(values, (-1, *([1] * (len(like.shape) - 1))))


def select(mask, yes, no):
    """`yes` for the images where `mask` holds, `no` for the others.

    Args:
        mask: `(N,)` bool.
        yes: `(N, ...)`.
        no: Of the same shape.
    """
    return _backend.select(mask, yes, no)


def euclidean(x):
    """Euclidean length of each image, `(N,)`, at any scale.

    Dividing by the largest entry first keeps the squares from overflowing,
    and from vanishing where all entries are tiny.
    """
    x = ops.convert_to_tensor(x)
    largest = ops.max(ops.abs(x), axis=_axes(x), keepdims=True)
    scale = ops.where(largest > 0, largest, ops.ones_like(largest))
    squares = ops.sum(ops.square(x / scale), axis=_axes(x))
    return ops.reshape(scale, (-1,)) * ops.sqrt(squares)


class Norm(abc.ABC):
    """A norm on images, with its ball, its projection and its steepest step."""

    name: str

    @abc.abstractmethod
    def length(self, delta):
        """The norm of each perturbation: `(N, ...)` to `(N,)`."""

    @abc.abstractmethod
    def project(self, delta, eps):
        """The nearest point (in the l2 sense) of the ball of radius `eps`."""

    @abc.abstractmethod
    def steepest(self, grad):
        """The direction of unit norm that raises `<grad, .>` fastest.

        It is zero where the gradient is zero, and does not depend on the
        gradient's scale.
        """

    @abc.abstractmethod
    def dual(self, grad):
        """The dual norm of a gradient, `<grad, steepest(grad)>`: `(N,)`."""

    @abc.abstractmethod
    def sample(self, keys, shape, eps):
        """Points uniform in the ball: `(N, *shape)`, one for each key."""

    def __repr__(self):
        return f"<norm {self.name}>"


class LInf(Norm):
    """The maximum norm."""

    name = "linf"

    def length(self, delta):
        return ops.max(ops.abs(delta), axis=_axes(delta))

    def project(self, delta, eps):
        return ops.clip(delta, -eps, eps)

    def steepest(self, grad):
        return ops.sign(grad)

    def dual(self, grad):
        return ops.sum(ops.abs(grad), axis=_axes(grad))

    def sample(self, keys, shape, eps):
        return eps * (2.0 * _noise.uniform(keys, shape) - 1.0)


class L2(Norm):
    """The Euclidean norm."""

    name = "l2"

    def length(self, delta):
        return euclidean(delta)

    def project(self, delta, eps):
        length = euclidean(delta)
        outside = length > eps
        factor = ops.where(outside, eps / ops.where(outside, length, 1.0), 1.0)
        return delta * per_image(factor, delta)

    def steepest(self, grad):
        largest = ops.max(ops.abs(grad), axis=_axes(grad), keepdims=True)
        unit = grad / ops.where(largest > 0, largest, ops.ones_like(largest))
        squares = ops.sum(ops.square(unit), axis=_axes(unit), keepdims=True)
        return unit / ops.sqrt(ops.maximum(squares, 1.0))

    def dual(self, grad):
        return euclidean(grad)

    def sample(self, keys, shape, eps):
        direction = self.steepest(_noise.normal(keys, shape))
        radius = _noise.uniform(_noise.fold_in(keys, 2), (1,))
        radius = ops.power(radius[:, 0], 1.0 / math.prod(shape))
        return eps * direction * per_image(radius, direction)


_NORMS = {norm.name: norm for norm in (LInf(), L2())}


def get(name):
    """The norm called `name`: `"linf"` or `"l2"`.

    Raises:
        ValueError: If there is no such norm.
    """
    if isinstance(name, Norm):
        return name
    _checks.check_one_of(_NORMS, norm=name)
    return _NORMS[name]
