"""The images in work: whose the slots are, and what is on the devices."""

import itertools
from typing import NamedTuple

import numpy as np

from keras_wp import _backend


class Image(NamedTuple):
    """One image to attack, on the host.

    `start` is where runs begin instead of at the image, and `extra` a tuple of
    arrays that `Classifier.given` takes; every image of a run has them, or
    none.
    """

    index: int
    x: np.ndarray
    y: int
    target: int
    key: np.ndarray
    clean_logits: np.ndarray
    start: np.ndarray | None = None
    extra: tuple | None = None


class Outcome(NamedTuple):
    """What became of one image.

    `x_adv` is the best adversarial image found, or the last try if `success`
    is False. `distance` is its distance from the image in the attack's norm,
    infinite without success. `steps` counts the iterations spent. `logits` are
    those of `x_adv`, where there is success. `denied` says that the attack
    claimed success and the model did not bear it out; `share` is the share of
    the model's answers that are wrong at what was claimed.
    """

    index: int
    x_adv: np.ndarray
    success: bool
    distance: float
    steps: int
    zero_gradients: int
    bad_gradients: int
    logits: np.ndarray
    denied: bool = False
    share: float = 0.0


class Slots:
    """The slots of all devices, in order.

    Args:
        programs: The compiled functions, with `devices`, `start`, `refill`
            and `advance`.
        images: The first images, at least one and at most one for each slot.
        size: The number of slots on each device.
    """

    def __init__(self, programs, images, size):
        self._programs = programs
        self._shares = [size] * len(programs.devices)
        # Idle slots hold copies of an image, and nobody waits for them.
        idle = sum(self._shares) - len(images)
        self.owners = images + [None] * idle
        self._inputs = self._spread(images + images[:1] * idle, self._shares)
        self._state = programs.start(self._inputs)
        self._calm = False

    @property
    def live(self):
        """The number of images in work."""
        return sum(owner is not None for owner in self.owners)

    def advance(self):
        """Advance every image, until some are done or for a few iterations.

        Returns the slots that are done.
        """
        self._state, done = self._programs.advance(
            self._inputs, self._state, self._calm
        )
        ready = [
            slot
            for slot in np.flatnonzero(done)
            if self.owners[slot] is not None
        ]
        self._calm = not ready
        return ready

    def progress(self, most):
        """How many images the work done on undecided ones amounts to.

        Args:
            most: How many iterations an image takes, at most.
        """
        steps = _backend.to_numpy(self._state["steps"])
        live = [owner is not None for owner in self.owners]
        return float(np.minimum(steps[live] / most, 1.0).sum())

    def release(self, slots):
        """Empty these slots; return their images, outcomes and last points."""
        state = self._state
        names = ("success", "distance", "steps")
        names += ("zero_gradients", "bad_gradients", "logits")
        values = {n: _backend.to_numpy(state[n]) for n in names}
        best = _backend.rows(state["best"], slots)
        last = _backend.rows(state["attack"]["x_adv"], slots)
        released = []
        for row, slot in enumerate(slots):
            image, self.owners[slot] = self.owners[slot], None
            success = bool(values["success"][slot])
            # Copies, as a view would keep the others' memory.
            outcome = Outcome(
                index=image.index,
                x_adv=np.array(best[row] if success else last[row]),
                success=success,
                distance=float(values["distance"][slot]),
                steps=int(values["steps"][slot]),
                zero_gradients=int(values["zero_gradients"][slot]),
                bad_gradients=int(values["bad_gradients"][slot]),
                logits=np.array(values["logits"][slot]),
            )
            released.append((image, outcome, np.array(last[row])))
        return released

    def refill(self, images):
        """Let images begin in empty slots; give up those that stay empty.

        A device keeps at least one slot, and all of them where each new shape
        would be compiled anew.
        """
        fixed = not _backend.DYNAMIC_BATCH
        filler = next(o for o in [*images, *self.owners] if o is not None)
        images, known = iter(images), iter(self.owners)
        owners, rows, fresh, shares, begun = [], [], [], [], []
        for share in self._shares:
            mine = list(itertools.islice(known, share))
            kept = [i for i, owner in enumerate(mine) if owner is not None]
            new = list(itertools.islice(images, share - len(kept)))
            held = [mine[i] for i in kept] + new
            # Slots and beginners of this device, with those that only fill.
            shares.append(share if fixed else max(1, len(held)))
            begun.append(share if fixed else max(1, len(new)))
            idle = shares[-1] - len(held)
            owners += held + [None] * idle
            rows += kept + [share + i for i in range(len(new))] + [0] * idle
            fresh += new + [filler] * (begun[-1] - len(new))
        self._inputs, self._state = self._programs.refill(
            _backend.spread(
                np.asarray(rows, np.int32), self._programs.devices, shares
            ),
            self._inputs,
            self._state,
            self._spread(fresh, begun),
        )
        self.owners, self._shares = owners, shares

    def _spread(self, images, shares):
        return _backend.spread(_stack(images), self._programs.devices, shares)


def stack_extra(images):
    """What images bring of their own, stacked; None if they do not."""
    if images[0].extra is None:
        return None
    columns = zip(*(image.extra for image in images), strict=True)
    return tuple(np.stack(column) for column in columns)


def _stack(images):
    stacked = {
        "x": np.stack([image.x for image in images]),
        "y": np.asarray([image.y for image in images], np.int32),
        "target": np.asarray([image.target for image in images], np.int32),
        "keys": np.stack([image.key for image in images]),
        "clean_logits": np.stack([image.clean_logits for image in images]),
    }
    if images[0].start is not None:
        stacked["start"] = np.stack([image.start for image in images])
    if images[0].extra is not None:
        stacked["extra"] = stack_extra(images)
    return stacked
