"""The compiled functions that run an attack on a model."""

import copy
import dataclasses
import time

import numpy as np

from keras_wp import _backend
from keras_wp.engine import iteration, predict
from keras_wp.engine.problem import Problem

_LONGEST_CALL = 1.0  # second


class Programs:
    """The compiled functions that run one attack on one model."""

    def __init__(self, attack, classifier, images, num_classes, reach_target):
        # The budget and the noise are arguments of the programs, so that one
        # trace serves every eps of a curve. What is compiled for a model must
        # not keep another one alive.
        attack = attack.weak()
        budget = getattr(attack, "eps", None)
        common = {} if budget is None else {"eps": 1.0}
        surrogate = attack.surrogate
        noise = surrogate.noise if surrogate else 0.0
        if noise:
            common["surrogate"] = dataclasses.replace(surrogate, noise=1.0)
        anonymous = dataclasses.replace(attack, seed=0, name=None, **common)
        # Two numbers: the rows of a vector would be shared out among devices.
        self._eps = np.float32(budget or 0.0), np.float32(noise)
        shape = images.shape[1:]
        self.forward = predict.forward_pass(classifier, shape)
        attack.check(classifier, images, num_classes)
        self.devices = self.forward.devices
        # Several devices keep step, so that none waits for another.
        alone = self.devices == _backend.ANYWHERE
        self._at_once = _backend.steps_at_once() if alone else 1
        self._most = 1
        digest = classifier.opened_digest
        key = anonymous, shape, num_classes, reach_target, digest

        def at(eps):
            if budget is None:
                return attack
            other = copy.copy(attack)
            object.__setattr__(other, "eps", eps[0])
            if noise:
                noisy = copy.copy(surrogate)
                object.__setattr__(noisy, "noise", eps[1])
                object.__setattr__(other, "surrogate", noisy)
            return other

        def problem(inputs):
            inputs = dict(inputs)
            model = classifier.given(inputs.pop("extra", None))
            return Problem(
                model,
                **inputs,
                bounds=attack.bounds,
                reach_target=reach_target,
            )

        def compiled(name, fn):
            more = surrogate.variables if surrogate else tuple
            return classifier.compile((name, *key), lambda: fn, more)

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
        before, else alone. A loop in a graph costs a few milliseconds, and
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
