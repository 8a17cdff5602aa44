"""One attack on all images that are left to it, streamed and resumable."""

import contextlib
import dataclasses
import time
from typing import NamedTuple

import numpy as np

from keras_wp import _noise
from keras_wp.engine import stream
from keras_wp.evaluation.donors import Donors
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


class Kept(NamedTuple):
    """What is kept of an outcome, in this order; earlier runs kept less."""

    success: int
    distance: float | None
    steps: int
    zero_gradients: int
    bad_gradients: int
    seconds: float
    denied: int
    share: float
    predicted: int = -1
    in_bytes: int = -1


class Job:
    """One attack with one budget (or, at minimum norm, with all).

    Args:
        session: The `Session`.
        attack: The attack.
        budgets: Its budgets.

    Attributes:
        attack: The attack, with the budget.
        pictures: The `Pictures` of it.
    """

    def __init__(self, session, attack, budgets):
        if not attack.minimum_norm and budgets[0] is not None:
            attack = dataclasses.replace(attack, eps=budgets[0])
        self.attack = attack
        self.pictures = session.keeper.pictures(attack)
        self._session = session
        self._description = attack.label
        if not attack.minimum_norm:
            self._description += f" eps={eps_text(budgets[0])}"

    def run(self, attacked):
        """Run the attack's parts, each on the survivors of those before.

        Args:
            attacked: `(n,)` bool, the images that the first part is run on.

        Returns:
            `Outcomes`.
        """
        session, clean = self._session, self._session.clean
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
                {**session.header(part), "attack": config},
                self._description.replace("=", "-"),
                # Where it begins depends on what others have found.
                shards=not part.wants_start,
            )
            alive = attacked & ~total.success
            # As if what earlier runs have done had been done just now.
            begun = time.perf_counter() - sum(
                max((Kept(*row).seconds for row in rows), default=0)
                for rows in store.files
            )
            tried = np.zeros(n, bool)
            with contextlib.closing(store):
                for block in self._blocks(alive):
                    tried |= block
                    found = self._fresh(part, (tried, block), store)
                    for outcome, in_bytes in rounded(found, session):
                        identity = clean.identities[outcome.index]
                        if outcome.success:
                            self.pictures.put(identity, outcome.x_adv)
                        seconds = time.perf_counter() - begun
                        store.add(identity, _kept(outcome, in_bytes, seconds))
                    _take(total, store, block, clean)
                    if not total.success[block].any():
                        break
            if part.follows_gradient:
                total = total._replace(blind=_blind(total, store, tried, clean))
            spent = time.perf_counter() - begun
            total = total._replace(seconds=total.seconds + spent)
        return total

    def _blocks(self, alive):
        """The images that are left, `(n,)` bool, in blocks that grow."""
        size = getattr(self.attack, "patience", None)
        if size is None:
            yield alive
            return
        # In an order of their own, as data may come class by class.
        names = self._session.clean.identities
        left = sorted(np.flatnonzero(alive), key=names.__getitem__)
        while left:
            block = np.zeros_like(alive)
            block[left[:size]] = True
            yield block
            left, size = left[size:], 2 * size

    def _fresh(self, part, images, store):
        """Attack the images whose outcome, or picture, is not there yet.

        Of `images`, the first are all that the part is run on by now, and the
        second those that come now: what is found for these lends nothing to
        the others, or a resumed run would begin at other points.
        """
        session, clean = self._session, self._session.clean
        alive, now = images
        known = {
            name
            for name, row in store.outcomes.items()
            if not Kept(*row).success or not self.pictures.lacks(name)
        }
        wanted = {
            clean.identities[i]: i
            for i in np.flatnonzero(alive)
            if clean.identities[i] not in known
        }
        goal = int(alive.sum())
        done = goal - len(wanted)
        fooled = sum(Kept(*store.outcomes[name]).success for name in known)
        label = self._description
        if part is not self.attack:
            label = f"{label} {part.label}"
        with session.bars.task(label, goal) as report:

            def show(begun=0):
                # Images that begin together end together: without what is
                # begun, the bar would be at rest for long.
                report(done + begun, f"{fooled} fooled")

            report(done)
            images, count = self._stream(part, wanted, now), len(wanted)
            for outcome in self._run(part, images, count, show):
                done += 1
                fooled += outcome.success
                show()
                yield outcome
        if wanted:
            raise ValueError(
                "`data` must hold the same images each time it is read, and "
                f"{len(wanted)} of {len(clean.labels)} were not met again: "
                "take random augmentation out of it"
            )

    def _run(self, part, images, count, watch):
        """The outcomes of a part, as they come about, here or elsewhere."""
        session = self._session
        stand_in = part.surrogate and part.surrogate.stand_in
        if session.pool is not None and stand_in is None:
            return session.pool.run(part, images, count)
        return stream.run(
            part,
            session.classifier,
            images,
            batch_size=session.batch_size,
            judge=session.judge,
            watch=watch,
        )

    def _stream(self, part, wanted, now):
        """The wanted images as they are read, each once."""
        if not wanted:
            return
        session, clean, start = self._session, self._session.clean, None
        if part.wants_start:
            start = Donors(session, part, self.pictures, ~now).start
        keys = _noise.seeded(clean.digests, session.seed, part.seed)
        for name, image in session.data.named():
            i = wanted.pop(name, None)
            if i is None:
                continue
            attacked = clean.to_attack(i, image, keys[i])
            if start is not None:
                attacked = attacked._replace(start=start(i, image))
            yield attacked
            if not wanted:
                return


def _kept(outcome, in_bytes, seconds):
    return Kept(
        success=int(outcome.success),
        distance=outcome.distance if outcome.success else None,
        steps=outcome.steps,
        zero_gradients=outcome.zero_gradients,
        bad_gradients=outcome.bad_gradients,
        seconds=round(seconds, 3),
        denied=int(outcome.denied),
        share=round(outcome.share, 4),
        predicted=int(np.argmax(outcome.logits)) if outcome.success else -1,
        in_bytes=in_bytes,
    )


def _take(total, store, block, clean):
    """Enter the outcomes of these images."""
    for i in np.flatnonzero(block):
        kept = Kept(*store.outcomes[clean.identities[i]])
        total.success[i] = kept.success
        if kept.success:
            total.distance[i] = kept.distance
            total.predicted[i] = kept.predicted
            total.in_bytes[i] = kept.in_bytes
        total.steps[i] += kept.steps
        total.zero_gradients[i] += kept.zero_gradients
        total.bad_gradients[i] += kept.bad_gradients
        total.denied[i] |= bool(kept.denied)
        total.share[i] = max(total.share[i], kept.share)


def _blind(total, store, alive, clean):
    """`total.blind` after a part whose outcomes are in `store`."""
    blind = np.ones(len(alive), bool) if total.blind is None else total.blind
    for i in np.flatnonzero(alive):
        kept = Kept(*store.outcomes[clean.identities[i]])
        lost = kept.zero_gradients + kept.bad_gradients
        blind[i] &= lost >= max(1, kept.steps / 2)
    return blind
