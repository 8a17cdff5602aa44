"""One attack on all images that are left to it, streamed and resumable."""

import dataclasses
import time
from typing import NamedTuple

import numpy as np

from keras_wp import engine, noise
from keras_wp.evaluation.store import Store


class Outcomes(NamedTuple):
    """One value for each image of the data set.

    `blind` says on which images no part of the attack could use more than half
    of its gradients; it is None if no part asks for any.
    """

    success: np.ndarray
    distance: np.ndarray
    steps: np.ndarray
    zero_gradients: np.ndarray
    bad_gradients: np.ndarray
    seconds: float
    blind: np.ndarray | None = None


class Job:
    """One attack with one budget (or, at minimum norm, with all).

    `header` maps a part of the attack to what its outcomes depend on besides.
    """

    def __init__(self, attack, budgets, header, seed, batch_size):
        if not attack.minimum_norm and budgets[0] is not None:
            attack = dataclasses.replace(attack, eps=budgets[0])
        self.attack = attack
        self._header = header
        self._seed = seed
        self._batch_size = batch_size
        self._description = attack.label
        if not attack.minimum_norm:
            self._description += f" eps={budgets[0]:.4g}"

    def run(
        self, classifier, data, clean, resume_dir, bars, pictures, attacked
    ):
        """Run the attack's parts, each on the survivors of those before.

        `attacked`, `(n,)` bool, says which images the first part is run on.
        """
        n = len(clean.labels)
        total = Outcomes(
            np.zeros(n, bool),
            np.full(n, np.inf),
            *(np.zeros(n, np.int64) for _ in range(3)),
            seconds=0.0,
        )
        for part in self.attack.parts:
            config = {**part.config(), "name": None}
            store = Store(
                resume_dir,
                {**self._header(part), "attack": config},
                self._description.replace("=", "-"),
            )
            alive = attacked & ~total.success
            begun = time.perf_counter()
            earlier = max((v[-1] for v in store.outcomes.values()), default=0)
            try:
                for outcome in self._fresh(
                    part, classifier, data, clean, alive, store, bars, pictures
                ):
                    if outcome.success:
                        identity = clean.identities[outcome.index]
                        pictures.put(identity, outcome.x_adv)
                    seconds = earlier + time.perf_counter() - begun
                    store.add(
                        clean.identities[outcome.index],
                        [
                            int(outcome.success),
                            outcome.distance if outcome.success else None,
                            outcome.steps,
                            outcome.zero_gradients,
                            outcome.bad_gradients,
                            round(seconds, 3),
                        ],
                    )
            finally:
                store.close()
            for i in np.flatnonzero(alive):
                values = store.outcomes[clean.identities[i]]
                total.success[i] = bool(values[0])
                if values[0]:
                    total.distance[i] = values[1]
                total.steps[i] += values[2]
                total.zero_gradients[i] += values[3]
                total.bad_gradients[i] += values[4]
            if part.follows_gradient:
                total = total._replace(blind=_blind(total, store, alive, clean))
            spent = earlier + time.perf_counter() - begun
            total = total._replace(seconds=total.seconds + spent)
        return total

    def _fresh(
        self, part, classifier, data, clean, alive, store, bars, pictures
    ):
        """Attack the images whose outcome, or picture, is not there yet."""
        known = {
            name
            for name, values in store.outcomes.items()
            if not values[0] or not pictures.lacks(name)
        }
        wanted = {
            clean.identities[i]: i
            for i in np.flatnonzero(alive)
            if clean.identities[i] not in known
        }
        goal = int(alive.sum())
        fooled = sum(store.outcomes[name][0] for name in known)
        done = goal - len(wanted)
        label = self._description
        if part is not self.attack:
            label = f"{label} {part.label}"
        with bars.task(label, goal) as report:
            report(done)
            for outcome in engine.run(
                part,
                classifier,
                self._stream(part, data, clean, wanted),
                batch_size=self._batch_size,
            ):
                done += 1
                fooled += outcome.success
                report(done, f"{fooled} fooled")
                yield outcome
        if wanted:
            raise ValueError(
                "`data` must hold the same images each time it is read, and "
                f"{len(wanted)} of {len(clean.labels)} were not met again: "
                "take random augmentation out of it"
            )

    def _stream(self, part, data, clean, wanted):
        """The wanted images as they are read, each once."""
        if not wanted:
            return
        keys = noise.seeded(clean.digests, self._seed, part.seed)
        for name, image in data.named(part.bounds):
            i = wanted.pop(name, None)
            if i is None:
                continue
            yield clean.to_attack(i, image, keys[i])
            if not wanted:
                return


def _blind(total, store, alive, clean):
    """`total.blind` after a part whose outcomes are in `store`."""
    blind = np.ones(len(alive), bool) if total.blind is None else total.blind
    for i in np.flatnonzero(alive):
        _, _, steps, zero, bad, _ = store.outcomes[clean.identities[i]]
        blind[i] &= zero + bad >= max(1, steps / 2)
    return blind
