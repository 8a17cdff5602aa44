"""Data that are a function of `(k, n)`, which reads shard k of n."""

import inspect

import keras


def is_function(data):
    """Whether data are a function that reads a shard of them."""
    return callable(data) and not (
        isinstance(data, keras.Layer)  # Arguments in the wrong order.
        or hasattr(data, "__iter__")
        or hasattr(data, "__getitem__")
    )


class Function:
    """A function of `(k, n)` as data that can be iterated.

    Args:
        function: Returns the data of shard k of n, or a generator of them.
        shard: `(k, n)` or None for `(1, 1)`. Iteration gives the batches of
            each of the n shards in turn.
        read: Batches of what the function returns, if that is no generator.

    Raises:
        ValueError: If it does not take `(k, n)`.
    """

    def __init__(self, function, shard, read):
        self._function, self._read = function, read
        self._count, self._used = (shard or (1, 1))[1], None
        try:
            taken = inspect.signature(function)
        except (TypeError, ValueError):
            return  # Not every callable tells what it takes.
        try:
            taken.bind(1, self._count)
        except TypeError:
            raise ValueError(
                "`data` that are a function must take (k, n), and return "
                f"shard k of n. Received: a function of {taken}"
            ) from None

    def __iter__(self):
        return (self.every(place, self._count) for place in range(self._count))

    def every(self, begin, count):
        """The batches of one of `count` shards, counted from 0.

        Raises:
            ValueError: If the function returns an iterator that is used up.
        """
        found = self._function(begin + 1, count)
        if not hasattr(found, "__next__"):
            return self._read(found)
        if found is self._used:
            raise ValueError(
                "A function of (k, n) must begin anew in each call, as images "
                f"are read more than once. Received: the same "
                f"{type(found).__name__} in two calls"
            )
        self._used = found
        return found
