"""One engine that runs every attack at the cost of the gradients needed.

A batch of fixed size is a set of slots. Each image advances in a slot by its
own counter; once it is done its outcome is handed out and the slot takes the
next image. The device always works on full batches of one static shape, and
nothing is spent on images already decided. Those that will take longest are
begun first, as far as the next few slots' images show. When no image is left to
take, idle slots are given up (not on JAX, where each new shape would be
compiled). Continuous batching in language-model serving is the same idea.

A model on several devices has slots on each of them, all fed from the one
stream of images and advanced by one call.

An outcome depends on the image, its label, the attack and the seeds only: not
on the images beside it, its slot, the batch size, or the number of devices (but
for the rounding of a pass through the model, which may differ with the batch).
"""

import copy
import dataclasses
import itertools
import time
from collections.abc import Iterable, Iterator

import numpy as np

from keras_wp import _backend, iteration
from keras_wp.classifier import Classifier
from keras_wp.finish import Ending, Judge
from keras_wp.order import hardest_first
from keras_wp.problem import Problem
from keras_wp.slots import Image, Outcome, Slots

_LONGEST_CALL = 1.0  # second
# A model is opened with so many images at hand.
_OPENED = 8
# So many images for each slot are read in advance, and the hardest taken.
_AHEAD = 2


class Programs:
    """The compiled functions that run one attack on one model."""

    def __init__(self, attack, classifier, images, num_classes, goal):
        # The budget and the noise are arguments of the programs, so that one
        # trace serves every eps of a curve. What is compiled for a model must
        # not keep another one alive.
        attack = attack.weak()
        budget = getattr(attack, "eps", None)
        common = {} if budget is None else {"eps": 1.0}
        noise = attack.surrogate.noise if attack.surrogate else 0.0
        if noise:
            common["surrogate"] = dataclasses.replace(
                attack.surrogate, noise=1.0
            )
        anonymous = dataclasses.replace(attack, seed=0, name=None, **common)
        # Two numbers: the rows of a vector would be shared out among devices.
        self._eps = np.float32(budget or 0.0), np.float32(noise)
        shape = images.shape[1:]
        self.forward = forward_program(classifier, shape)
        surrogate = attack.surrogate
        if surrogate is not None:
            surrogate.prepare(classifier, images)
        if attack.reads_features:
            classifier.open(images)
            classifier.cut()  # Which says why, where there are none.
        self.devices = self.forward.devices
        # Several devices keep step, so that none waits for another.
        alone = self.devices == _backend.ANYWHERE
        self._at_once = _backend.steps_at_once() if alone else 1
        self._most = 1
        key = (anonymous, shape, num_classes, goal, classifier.opened_digest)

        def at(eps):
            if budget is None:
                return attack
            other = copy.copy(attack)
            object.__setattr__(other, "eps", eps[0])
            if noise:
                noisy = copy.copy(attack.surrogate)
                object.__setattr__(noisy, "noise", eps[1])
                object.__setattr__(other, "surrogate", noisy)
            return other

        def problem(inputs):
            inputs = dict(inputs)
            model = classifier.given(inputs.pop("extra", None))
            return Problem(
                model, **inputs, bounds=attack.bounds, reach_target=goal
            )

        def variables():
            return () if surrogate is None else surrogate.variables()

        def compiled(name, fn):
            return classifier.compile((name, *key), lambda: fn, variables)

        def advance(eps, inputs, state):
            return iteration.advance(at(eps), problem(inputs), state)

        def start(eps, inputs):
            return iteration.start(at(eps), problem(inputs))

        def refill(eps, rows, inputs, state, fresh):
            begun = fresh, start(eps, fresh)
            return iteration.rearrange(rows, (inputs, state), begun)

        self._start = compiled("start", start)
        self._refill = compiled("refill", refill)
        self._advance = once = compiled("advance", advance)

        def several(eps, inputs, state, most):
            # What is compiled already is called, and not traced again.
            return iteration.until_done(
                lambda state: once(eps, inputs, state), state, most
            )

        self._several = compiled("several", several)

    def start(self, inputs):
        """The state in which these images begin."""
        return self._start(self._eps, inputs)

    def refill(self, rows, inputs, state, fresh):
        """Inputs and state of some of these images, and of fresh ones."""
        return self._refill(self._eps, rows, inputs, state, fresh)

    def advance(self, inputs, state, calm):
        """Every image after one iteration, or several if none of them is done.

        What an iteration runs in must not depend on the clock, or the same call
        could round otherwise: in the loop if no image was done in the iteration
        before, else by itself. A loop in a graph costs a few milliseconds, and
        is for images that resist.

        Args:
            inputs: What `start` was given.
            state: The state.
            calm: Whether no image was done in the iteration before.

        Returns:
            The new state, and on the host which images are done.
        """
        begun = time.perf_counter()
        if self._at_once > 1 and (calm or not _backend.LOOPS_COST):
            most = self._most
            state = self._several(self._eps, inputs, state, np.int32(most))
        else:
            most = 1
            state = self._advance(self._eps, inputs, state)
        done = _backend.to_numpy(state["done"])
        seconds = (time.perf_counter() - begun) / most
        # Nothing can be interrupted within a call.
        short = seconds * self._at_once < _LONGEST_CALL
        self._most = self._at_once if short else 1
        return state, done


def forward_program(classifier, shape):
    """The compiled forward pass of a model."""
    classifier.build(shape)

    def logits(x, extra=None):
        return classifier.given(extra)(x)

    return classifier.compile(("forward", shape), lambda: logits)


def run(
    attack,
    model,
    images: Iterable[Image],
    *,
    batch_size=128,
    reach_target=False,
    examine_last=True,
    judge=None,
) -> Iterator[Outcome]:
    """Attack a stream of images; yield outcomes as they come about.

    Args:
        attack: A `keras_wp.attacks.Attack`.
        model: A Keras model or a callable, or a `Classifier`.
        images: The images, read as slots fall free, and two for each slot in
            advance.
        batch_size: How many images are worked on at a time on each device,
            at most.
        reach_target: See `Problem.reach_target`.
        examine_last: Whether the point where a failing image ends is
            examined. Without it, `success` misses what the last step did.
        judge: A `Judge`, who has the last word on what an attack claims; None
            for one of the model as it is.

    Yields:
        One `Outcome` for each image, in the order in which they are done.
    """
    classifier = model if isinstance(model, Classifier) else Classifier(model)
    source = iter(images)
    first = list(itertools.islice(source, 1))
    if not first:
        return
    first += itertools.islice(source, _OPENED - 1)
    programs = Programs(
        attack,
        classifier,
        np.stack([image.x for image in first]),
        len(first[0].clean_logits),
        reach_target,
    )
    judge = Judge(classifier) if judge is None else judge
    # Copies of an image take room as images do.
    copies = 1 if attack.surrogate is None else attack.surrogate.copies
    size = max(1, _backend.preferred_slots(batch_size) // copies)
    devices = len(programs.devices)
    width = size * devices
    source = hardest_first(
        itertools.chain(first, source), _AHEAD * width, reach_target
    )
    first = list(itertools.islice(source, width))
    if _backend.DYNAMIC_BATCH:
        size = -(-len(first) // devices)
    slots = Slots(programs, first, size)
    ending = Ending(attack, programs.forward, reach_target, size, judge)
    exhausted = False
    while slots.live:
        finished = []
        ready = slots.advance()
        if ready:
            finished = slots.release(ready)
        for image, outcome, point in finished:
            point = point if examine_last else None
            yield from ending.add(image, outcome, point)
        fresh = []
        if finished and not exhausted:
            fresh = list(itertools.islice(source, len(finished)))
            exhausted = len(fresh) < len(finished)
        give_up = finished and _backend.DYNAMIC_BATCH and slots.live
        if fresh or give_up:
            slots.refill(fresh)
    yield from ending.flush()
