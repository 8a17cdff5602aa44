"""Hands chunks of images to workers as they fall free, each chunk once.

The workers may be Ray's actors, or anything else that has `Hands`' methods: the
rules of who gets what, and what happens when a worker dies, are these.
"""

import collections
import itertools
from typing import Protocol

# So many chunks wait at a worker, so that it need not wait for the next.
_AHEAD = 2
# A chunk that so many workers have died with may be the reason.
_TRIES = 3
# A chunk is so many times what a worker works on at a time: at its end the
# worker has fewer images than that.
_ROUNDS = 4


class Hands(Protocol):
    """What a pool asks of the workers."""

    workers: list

    def submit(self, worker, part, chunk):
        """Let a worker attack a chunk; return a ticket, which is hashable."""
        ...

    def wait(self, tickets):
        """The first of these that is done, and its outcomes.

        None in the place of outcomes if the worker has died; twice None if
        there is another worker now.
        """
        ...

    def replace(self, worker):
        """Have another worker in the place of one that has died, in time."""
        ...

    def close(self):
        """Let all workers end."""
        ...


class Pool:
    """Runs parts of attacks on images, as `engine.stream.run` does.

    Args:
        hands: The workers, as `Hands`.
        sizes: How many images make a chunk: a number, or a function from how
            many images there are to those of the chunks.
    """

    def __init__(self, hands, sizes):
        self._hands, self._sizes = hands, sizes

    def run(self, part, images, count=None):
        """Attack images; yield outcomes as chunks come back.

        Images are read as workers fall free, so that no more are held than
        are in work. Those of a chunk come back together, or not at all: what a
        worker had that died is given to another, and counts once.

        Args:
            part: An `Attack` that is one.
            images: `engine.slots.Image`s.
            count: How many there are, if `sizes` is a function.

        Yields:
            `Outcome`s.

        Raises:
            RuntimeError: If a chunk's workers die again and again.
        """
        chunks = enumerate(self._chunks(iter(images), count))
        returned, pending = collections.deque(), {}
        load, lost = collections.Counter(), collections.Counter()
        while True:
            for worker in self._free(load):
                item = returned.popleft() if returned else next(chunks, None)
                if item is None:
                    break
                ticket = self._hands.submit(worker, part, item[1])
                pending[ticket] = worker, item
                load[worker] += 1
            if not pending and self._hands.workers:
                return  # All were free, and nothing was left for them.
            ticket, outcomes = self._hands.wait(list(pending))
            if ticket is None:
                continue
            worker, item = pending.pop(ticket)
            load[worker] -= 1
            if outcomes is not None:
                yield from outcomes
                continue
            lost[item[0]] += 1
            if lost[item[0]] == _TRIES:
                raise RuntimeError(
                    f"{_TRIES} workers have died at the same "
                    f"{len(item[1])} images: is their memory too small? A "
                    "smaller `batch_size` needs less."
                )
            returned.append(item)
            if worker in self._hands.workers:
                self._hands.replace(worker)

    def close(self):
        """Let the workers end."""
        self._hands.close()

    def _chunks(self, images, count):
        if callable(self._sizes):
            sizes = self._sizes(count)
        else:
            sizes = itertools.repeat(self._sizes)
        for size in sizes:
            chunk = list(itertools.islice(images, size))
            if not chunk:
                return
            yield chunk

    def _free(self, load):
        """The workers that may have one more chunk, the idlest first."""
        for count in range(_AHEAD):
            for worker in list(self._hands.workers):
                if load[worker] == count:
                    yield worker


def chunk_sizes(images, workers, slots):
    """Yield how many images make each chunk.

    Several rounds of what a worker works on at a time, then less, and in the
    end an equal share for each worker, so that all end at about the same time.
    No share is cut for that: thousands of steps take about as long with a few
    images as with many.

    Args:
        images: How many there are.
        workers: How many workers there are.
        slots: How many images a worker works on at a time.

    Source: Polychronopoulos and Kuck, "Guided self-scheduling" (IEEE
    Transactions on Computers, 1987), but for the end.
    """
    while images > 2 * workers * slots:
        size = min(_ROUNDS * slots, images // (2 * workers))
        images -= size
        yield size
    for worker in range(workers, 0, -1):
        size = -(-images // worker)
        images -= size
        yield size
