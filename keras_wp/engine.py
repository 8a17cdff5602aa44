"""One engine that runs every attack at the cost of the gradients needed.

A batch of fixed size is a set of slots. Each image advances in a slot by its
own counter; once it is done its outcome is handed out and the slot takes the
next image. The device always works on full batches of one static shape, and
nothing is spent on images already decided. When no image is left to take, idle
slots are given up (not on JAX, where each new shape would be compiled).
Continuous batching in language-model serving is the same idea.

An outcome depends on the image, its label, the attack and the seeds only: not
on the images beside it, its slot, or the batch size.
"""

import copy
import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_wp import _backend, iteration
from keras_wp.classifier import Classifier
from keras_wp.finish import Ending
from keras_wp.problem import Problem


class Image(NamedTuple):
    """One image to attack, on the host."""

    index: int
    x: np.ndarray
    y: int
    target: int
    key: np.ndarray
    clean_logits: np.ndarray


class Outcome(NamedTuple):
    """What became of one image.

    `x_adv` is the best adversarial image found, or the last try if `success`
    is False. `distance` is its distance from the image in the attack's norm,
    infinite without success. `steps` counts the iterations spent.
    """

    index: int
    x_adv: np.ndarray
    success: bool
    distance: float
    steps: int
    zero_gradients: int
    bad_gradients: int


class Programs:
    """The compiled functions that run one attack on one model."""

    def __init__(self, attack, classifier, shape, num_classes, goal):
        # The budget is an argument of the programs, so that one trace serves
        # every eps of a curve.
        budget = getattr(attack, "eps", None)
        common = {} if budget is None else {"eps": 1.0}
        anonymous = dataclasses.replace(attack, seed=0, name=None, **common)
        key = (anonymous, shape, num_classes, goal)
        self._eps = np.float32(0.0 if budget is None else budget)
        self.forward = forward_program(classifier, shape)

        def at(eps):
            if budget is None:
                return attack
            other = copy.copy(attack)
            object.__setattr__(other, "eps", eps)
            return other

        def problem(inputs):
            return Problem(
                classifier, **inputs, bounds=attack.bounds, reach_target=goal
            )

        def compiled(name, fn):
            return classifier.compile((name, *key), lambda: fn)

        self._start = compiled(
            "start",
            lambda eps, inputs: iteration.start(at(eps), problem(inputs)),
        )
        self._refill = compiled(
            "refill",
            lambda eps, places, inputs, state: iteration.put(
                state, places, iteration.start(at(eps), problem(inputs))
            ),
        )
        self._advance = compiled(
            "advance",
            lambda eps, inputs, state: iteration.advance(
                at(eps), problem(inputs), state
            ),
        )

    def start(self, inputs):
        """The state in which these images begin."""
        return self._start(self._eps, inputs)

    def refill(self, places, inputs, state):
        """`state`, but with these images beginning in these slots."""
        return self._refill(self._eps, places, inputs, state)

    def advance(self, inputs, state):
        """`state` after one iteration."""
        return self._advance(self._eps, inputs, state)


def forward_program(classifier, shape):
    """The compiled forward pass of a model."""
    classifier.build(shape)
    return classifier.compile(("forward", shape), lambda: classifier)


class _Slots:
    """The images in work, on host and device."""

    def __init__(self, programs, images, size):
        self._programs = programs
        # Idle slots hold copies of the first image, and nobody waits for
        # them.
        filled = images + [images[0]] * (size - len(images))
        self._inputs = _stack(filled)
        self.owners = list(images) + [None] * (size - len(images))
        self._device = _to_device(self._inputs)
        self._state = programs.start(self._device)

    @property
    def live(self):
        return sum(owner is not None for owner in self.owners)

    def advance(self):
        """Advance every image once; return the slots that are done."""
        self._state = self._programs.advance(self._device, self._state)
        done = ops.convert_to_numpy(self._state["done"])
        return [
            slot
            for slot in np.flatnonzero(done)
            if self.owners[slot] is not None
        ]

    def release(self, slots):
        """Empty these slots; return their images, outcomes and last points."""
        state = self._state
        names = ("success", "distance", "steps")
        names += ("zero_gradients", "bad_gradients")
        values = {n: ops.convert_to_numpy(state[n]) for n in names}
        best = ops.convert_to_numpy(state["best"])
        last = ops.convert_to_numpy(state["attack"]["x_adv"])
        released = []
        for slot in slots:
            image, self.owners[slot] = self.owners[slot], None
            success = bool(values["success"][slot])
            outcome = Outcome(
                index=image.index,
                x_adv=np.array(best[slot] if success else last[slot]),
                success=success,
                distance=float(values["distance"][slot]),
                steps=int(values["steps"][slot]),
                zero_gradients=int(values["zero_gradients"][slot]),
                bad_gradients=int(values["bad_gradients"][slot]),
            )
            released.append((image, outcome, np.array(last[slot])))
        return released

    def refill(self, images):
        """Put images into empty slots."""
        free = [i for i, owner in enumerate(self.owners) if owner is None]
        places = free[: len(images)]
        fresh = _stack(images)
        for name, values in self._inputs.items():
            values[places] = fresh[name]
        for place, image in zip(places, images, strict=True):
            self.owners[place] = image
        if not _backend.DYNAMIC_BATCH:
            # One shape for any number: the first image begins repeatedly.
            places += places[:1] * (len(self.owners) - len(places))
            fresh = {k: v[places] for k, v in self._inputs.items()}
        self._device = _to_device(self._inputs)
        self._state = self._programs.refill(
            np.asarray(places, np.int32), _to_device(fresh), self._state
        )

    def shrink(self):
        """Give up the slots that are idle."""
        keep = [i for i, owner in enumerate(self.owners) if owner is not None]
        if len(keep) == len(self.owners):
            return
        keep = np.asarray(keep)
        self.owners = [self.owners[i] for i in keep]
        self._inputs = {k: v[keep] for k, v in self._inputs.items()}
        self._device = _to_device(self._inputs)
        self._state = keras.tree.map_structure(
            lambda t: ops.take(t, keep, axis=0), self._state
        )


def _stack(images):
    return {
        "x": np.stack([image.x for image in images]),
        "y": np.asarray([image.y for image in images], np.int32),
        "target": np.asarray([image.target for image in images], np.int32),
        "keys": np.stack([image.key for image in images]),
        "clean_logits": np.stack([image.clean_logits for image in images]),
    }


def _to_device(inputs):
    return {k: ops.convert_to_tensor(v) for k, v in inputs.items()}


def run(
    attack,
    model,
    images: Iterable[Image],
    *,
    batch_size=128,
    reach_target=False,
    examine_last=True,
) -> Iterator[Outcome]:
    """Attack a stream of images; yield outcomes as they come about.

    Args:
        attack: A `keras_wp.attacks.Attack`.
        model: A Keras model or a callable, or a `Classifier`.
        images: The images, read as slots fall free.
        batch_size: How many images are worked on at a time, at most.
        reach_target: See `Problem.reach_target`.
        examine_last: Whether the point where a failing image ends is
            examined. Without it, `success` misses what the last step did.

    Yields:
        One `Outcome` for each image, in the order in which they are done.
    """
    classifier = model if isinstance(model, Classifier) else Classifier(model)
    size = _backend.preferred_slots(batch_size)
    source = iter(images)
    first = list(itertools.islice(source, size))
    if not first:
        return
    if _backend.DYNAMIC_BATCH:
        size = len(first)
    programs = Programs(
        attack,
        classifier,
        first[0].x.shape,
        len(first[0].clean_logits),
        reach_target,
    )
    slots = _Slots(programs, first, size)
    ending = Ending(attack, programs.forward, reach_target, size)
    exhausted = False
    while slots.live:
        finished = []
        ready = slots.advance()
        if ready:
            finished = slots.release(ready)
        for image, outcome, point in finished:
            point = point if examine_last else None
            yield from ending.add(image, outcome, point)
        if finished and not exhausted:
            fresh = list(itertools.islice(source, len(finished)))
            exhausted = len(fresh) < len(finished)
            if fresh:
                slots.refill(fresh)
        if exhausted and _backend.DYNAMIC_BATCH and slots.live:
            slots.shrink()
    yield from ending.flush()
