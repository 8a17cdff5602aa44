"""One attack on all images that are left to it, streamed and resumable."""

import dataclasses
import time
from typing import NamedTuple

import numpy as np

from keras_wp import _noise
from keras_wp.engine import stream
from keras_wp.evaluation.in_bytes import rounded
from keras_wp.evaluation.resume import Store
from keras_wp.reports.wording import eps_text


class Outcomes(NamedTuple):
    """One value for each image of the data set.

    `denied` says where the model has not borne out what a part claimed, and
    `share` which share of its answers was wrong at the last claim. `blind` says
    on which images no part of the attack could use more than half of its
    gradients; it is None if no part asks for any. `predicted` is the class of
    what fooled the model, and `in_bytes` whether it still does when rounded to
    256 levels, 1 or 0; both are -1 where nothing is known.
    """

    success: np.ndarray
    distance: np.ndarray
    steps: np.ndarray
    zero_gradients: np.ndarray
    bad_gradients: np.ndarray
    denied: np.ndarray
    share: np.ndarray
    predicted: np.ndarray
    in_bytes: np.ndarray
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
            self._description += f" eps={eps_text(budgets[0])}"

    def run(self, session, pictures, attacked):
        """Run the attack's parts, each on the survivors of those before.

        Args:
            session: The `Session`.
            pictures: The `Pictures` of the attack.
            attacked: `(n,)` bool, the images that the first part is run on.
        """
        clean = session.clean
        n = len(clean.labels)
        total = Outcomes(
            np.zeros(n, bool),
            np.full(n, np.inf),
            *(np.zeros(n, np.int64) for _ in range(3)),
            denied=np.zeros(n, bool),
            share=np.zeros(n),
            predicted=np.full(n, -1),
            in_bytes=np.full(n, -1),
            seconds=0.0,
        )
        for part in self.attack.parts:
            config = {**part.config(), "name": None}
            store = Store(
                session.resume_dir,
                {**self._header(part), "attack": config},
                self._description.replace("=", "-"),
                # Where it begins depends on what others have found.
                shards=not part.wants_start,
            )
            alive = attacked & ~total.success
            begun = time.perf_counter()
            earlier = sum(
                max((values[5] for values in kept), default=0)
                for kept in store.files
            )
            tried = np.zeros(n, bool)
            try:
                for block in self._blocks(alive, clean):
                    tried |= block
                    found = self._fresh(
                        part, session, (tried, block), store, pictures
                    )
                    for outcome, in_bytes in rounded(found, session):
                        identity = clean.identities[outcome.index]
                        if outcome.success:
                            pictures.put(identity, outcome.x_adv)
                        seconds = earlier + time.perf_counter() - begun
                        store.add(identity, _values(outcome, in_bytes, seconds))
                    self._take(total, store, block, clean)
                    if not total.success[block].any():
                        break
            finally:
                store.close()
            if part.follows_gradient:
                total = total._replace(blind=_blind(total, store, tried, clean))
            spent = earlier + time.perf_counter() - begun
            total = total._replace(seconds=total.seconds + spent)
        return total

    def _blocks(self, alive, clean):
        """The images that are left, `(n,)` bool, in blocks that grow."""
        size = getattr(self.attack, "patience", None)
        if size is None:
            yield alive
            return
        # In an order of their own, as data may come class by class.
        left = sorted(np.flatnonzero(alive), key=clean.identities.__getitem__)
        while left:
            block = np.zeros_like(alive)
            block[left[:size]] = True
            yield block
            left, size = left[size:], 2 * size

    def _take(self, total, store, block, clean):
        """Enter the outcomes of these images."""
        for i in np.flatnonzero(block):
            values = store.outcomes[clean.identities[i]]
            total.success[i] = bool(values[0])
            if values[0]:
                total.distance[i] = values[1]
            total.steps[i] += values[2]
            total.zero_gradients[i] += values[3]
            total.bad_gradients[i] += values[4]
            # Earlier runs tell less.
            denied, share, predicted, in_bytes = [
                *values[6:],
                *(0, float(values[0]), -1, -1)[len(values) - 6 :],
            ]
            if values[0]:
                total.predicted[i] = predicted
                total.in_bytes[i] = in_bytes
            total.denied[i] |= bool(denied)
            total.share[i] = max(total.share[i], share)

    def _fresh(self, part, session, images, store, pictures):
        """Attack the images whose outcome, or picture, is not there yet.

        Of `images`, the first are all that the part is run on by now, and the
        second those that come now: what is found for these lends nothing to
        the others, or a resumed run would begin at other points.
        """
        clean = session.clean
        alive, now = images
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
        with session.bars.task(label, goal) as report:
            count = [done, fooled]

            def show(begun=0):
                # Images that begin together end together: without what is
                # begun, the bar would be at rest for long.
                report(count[0] + begun, f"{count[1]} fooled")

            report(done)
            images = self._stream(part, session, wanted, now)
            left = len(wanted)
            for outcome in self._run(part, session, (images, left), show):
                count[0] += 1
                count[1] += outcome.success
                show()
                yield outcome
        if wanted:
            raise ValueError(
                "`data` must hold the same images each time it is read, and "
                f"{len(wanted)} of {len(clean.labels)} were not met again: "
                "take random augmentation out of it"
            )

    def _run(self, part, session, images, watch):
        """The outcomes of a part, as they come about, here or elsewhere.

        Of `images`, the second is how many there are.
        """
        stand_in = part.surrogate and part.surrogate.stand_in
        images, count = images
        if session.pool is not None and stand_in is None:
            return session.pool.run(part, images, count)
        return stream.run(
            part,
            session.classifier,
            images,
            batch_size=self._batch_size,
            judge=session.judge,
            watch=watch,
        )

    def _stream(self, part, session, wanted, now):
        """The wanted images as they are read, each once."""
        if not wanted:
            return
        clean, data, start = session.clean, session.data, None
        if part.wants_start:
            start = session.starts(part, now)
        keys = _noise.seeded(clean.digests, self._seed, part.seed)
        for name, image in data.named():
            i = wanted.pop(name, None)
            if i is None:
                continue
            attacked = clean.to_attack(i, image, keys[i])
            if start is not None:
                attacked = attacked._replace(start=start(i, image))
            yield attacked
            if not wanted:
                return


def _values(outcome, in_bytes, seconds):
    """What is kept of an outcome."""
    return [
        int(outcome.success),
        outcome.distance if outcome.success else None,
        outcome.steps,
        outcome.zero_gradients,
        outcome.bad_gradients,
        round(seconds, 3),
        int(outcome.denied),
        round(outcome.share, 4),
        int(np.argmax(outcome.logits)) if outcome.success else -1,
        in_bytes,
    ]


def _blind(total, store, alive, clean):
    """`total.blind` after a part whose outcomes are in `store`."""
    blind = np.ones(len(alive), bool) if total.blind is None else total.blind
    for i in np.flatnonzero(alive):
        steps, zero, bad = store.outcomes[clean.identities[i]][2:5]
        blind[i] &= zero + bad >= max(1, steps / 2)
    return blind
