"""What an operation does to lengths and to the errors of float32."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from keras_wp.lipschitz import norms

# No number within this can overflow float32.
_FINITE = 1e37


class Bound(NamedTuple):
    """What is known of a tensor, for images of certain lengths.

    Attributes:
        size: `(n,)`, its l2 length in float32, at most.
        error: `(n,)`, its l2 distance from exact arithmetic, at most.
    """

    size: np.ndarray
    error: np.ndarray


class Rule(NamedTuple):
    """What an operation of one tensor does to lengths.

    Attributes:
        constant: Its Lipschitz constant in l2, at most.
        rounding: How far float32 takes it from exact numbers, at most, for
            the length of its input and that of what it makes of zeros.
    """

    constant: float
    rounding: Callable = lambda size, at_zero: 0.0 * size

    def constant_of(self, given):
        """The constant of what it makes of a tensor of constant `given`."""
        return self.constant * given[0]

    def bound(self, given, at_zero):
        """The `Bound` of what it makes of a tensor with the `Bound` given."""
        ((size, error),) = given
        # That of zeros is in float32, too.
        sizes = np.concatenate([[0.0], size])
        off = np.broadcast_to(self.rounding(sizes, at_zero), sizes.shape)
        size = at_zero + off[0] + self.constant * size + off[1:]
        return _finite(size, self.constant * error + off[1:])


class Joined(NamedTuple):
    """What an operation of several tensors does to lengths.

    Attributes:
        combine: The constant of the outcome, given those of the tensors; or
            the lengths, likewise.
        terms: How many numbers are added; 0 if they are but moved.
    """

    combine: Callable
    terms: int = 0

    def constant_of(self, given):
        """The constant of what it makes of tensors of these constants."""
        return float(self.combine(given))

    def bound(self, given, at_zero):
        """The `Bound` of what it makes of tensors with these `Bound`s."""
        del at_zero
        sizes, errors = zip(*given, strict=True)
        local = 0.0
        if self.terms:
            local = norms.gamma(self.terms + 1) * sum(sizes) + norms.FLUSHED
        size = self.combine(sizes) + local
        return _finite(size, self.combine(errors) + local)


def _finite(size, error):
    return Bound(size, np.where(size < _FINITE, error, np.inf))


def few_operations(constant, operations=1):
    """So many roundings of each number."""

    def rounding(size, at_zero):
        total = constant * size + at_zero
        return norms.gamma(operations) * total + norms.FLUSHED

    return Rule(constant, rounding)


# What moves numbers, or drops some.
EXACT = Rule(1.0)
