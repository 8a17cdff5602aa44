"""What is left to do for an image when its last run is over.

Points are gathered until a full batch can be passed through the model, on any
number of images and at no more cost than forward passes.
"""

import numpy as np
from keras import ops

from keras_wp import norms
from keras_wp.engine import predict
from keras_wp.engine.slots import stack_extra
from keras_wp.objectives import adversarial_margin, predicted

# A search aims at this share of the margin that is left, and keeps at least
# half of a share of the clean image's margin and logits: with no margin at
# all, rounding would decide what is adversarial.
_KEPT_MARGIN = 0.1
_LEAST_MARGIN = 1e-3
_LEAST_LOGIT = 1e-5


class Ending:
    """What images go through once their slots are free."""

    def __init__(self, attack, program, reach_target, size, judge=None):
        self._attack = attack
        self._norm = norms.get(attack.norm)
        self._program = program
        self._reach_target = reach_target
        self._size = size
        self._judge = judge
        full = size * len(program.devices)
        self._last = _Waiting(self._last_points, full)
        self._search = _Waiting(self._final_search, full)
        self._verdict = _Waiting(self._verdicts, full)

    def add(self, image, outcome, point):
        """Take an image in; yield the outcomes that are final by now."""
        attack = self._attack
        decided = outcome.success and not attack.minimum_norm
        # A run may end on the point that has just been kept. (Without
        # success none is kept, and the outcome shows the last try.)
        kept = outcome.success and np.array_equal(point, outcome.x_adv)
        known = point is None or kept
        if attack.examines_before_moving and not decided and not known:
            yield from self._searched(self._last.add(image, outcome, point))
        else:
            yield from self._searched([(image, outcome)])

    def flush(self):
        """Yield the outcomes of all that wait."""
        yield from self._searched(self._last.flush())
        yield from self._judged(self._search.flush())
        for _, outcome in self._verdict.flush():
            yield outcome

    def _searched(self, finished):
        for image, outcome in finished:
            if outcome.success and self._attack.final_search:
                yield from self._judged(self._search.add(image, outcome))
            else:
                yield from self._judged([(image, outcome)])

    def _judged(self, finished):
        for image, outcome in finished:
            if outcome.success and self._judge is not None:
                for _, final in self._verdict.add(image, outcome):
                    yield final
            else:
                yield outcome

    def _labels(self, images):
        reach_target = self._reach_target
        return np.asarray([i.target if reach_target else i.y for i in images])

    def _margin(self, images, logits):
        labels = self._labels(images)
        return adversarial_margin(logits, labels, self._reach_target)

    def _examine(self, images, points):
        """Logits, margins, which are adversarial, and the distances.

        Where two logits tie, the first class is the prediction, as it is for
        the clean images and within the iterations.
        """
        extra = stack_extra(images)
        logits = predict.forward(self._program, points, self._size, extra)
        margin = self._margin(images, logits)
        hit = predicted(logits) == self._labels(images)
        fooled = hit == self._reach_target
        fooled &= np.isfinite(logits).all(-1)
        if self._attack.confidence:
            fooled &= margin > self._attack.confidence
        delta = points - np.stack([image.x for image in images])
        distances = ops.convert_to_numpy(self._norm.length(delta))
        return logits, margin, fooled, distances

    def _last_points(self, waiting):
        """Examine the points where runs have ended."""
        images = [image for image, _, _ in waiting]
        points = np.stack([point for _, _, point in waiting])
        logits, _, fooled, distances = self._examine(images, points)
        attack = self._attack
        for place, (image, outcome, point) in enumerate(waiting):
            distance = float(distances[place])
            within = attack.radius is None or distance <= attack.radius
            closer = distance < outcome.distance
            if fooled[place] and within and closer:
                outcome = outcome._replace(
                    x_adv=point,
                    success=True,
                    distance=distance,
                    logits=logits[place],
                )
            yield image, outcome

    def _final_search(self, waiting):
        """Move adversarial images back towards the clean ones.

        On the segment between the two, the margin is taken to be linear
        between the nearest point known to be adversarial and the farthest
        known not to be, and the point is examined where it should almost
        vanish, for `attack.final_search` times (Croce and Hein, 2020, section
        2.4: there, 3 times). One forward pass each.
        """
        images = [image for image, _ in waiting]
        clean = np.stack([image.x for image in images])
        found = np.stack([outcome.x_adv for _, outcome in waiting])
        best, distances = found.copy(), [o.distance for _, o in waiting]
        logits = np.stack([image.clean_logits for image in images])
        safe_margin = self._margin(images, logits)
        least = np.maximum(
            _LEAST_MARGIN * np.abs(safe_margin),
            _LEAST_LOGIT * np.abs(logits).max(-1),
        )
        best_logits = np.stack([outcome.logits for _, outcome in waiting])
        margin = self._margin(images, best_logits)
        safe, fooled = np.zeros(len(images)), np.ones(len(images))
        confidence = self._attack.confidence
        for _ in range(self._attack.final_search):
            wanted = np.maximum(_KEPT_MARGIN * (margin - confidence), least)
            width = margin - safe_margin
            share = np.divide(
                confidence + wanted - safe_margin,
                width,
                out=np.full(len(images), 0.5),
                where=np.isfinite(width) & (width > 0),
            )
            place = safe + np.minimum(share, 1) * (fooled - safe)
            shape = (-1, *[1] * (clean.ndim - 1))
            points = clean + place.reshape(shape) * (found - clean)
            points = points.astype(np.float32).clip(*self._attack.bounds)
            seen, there, _, length = self._examine(images, points)
            crossed = there > confidence + least / 2
            fooled = np.where(crossed, place, fooled)
            margin = np.where(crossed, there, margin)
            safe = np.where(crossed, safe, place)
            safe_margin = np.where(crossed, safe_margin, there)
            closer = crossed & (length < distances)
            best[closer], best_logits[closer] = points[closer], seen[closer]
            distances = np.where(closer, length, distances)
        for row, (image, outcome) in enumerate(waiting):
            outcome = outcome._replace(
                x_adv=best[row],
                distance=float(distances[row]),
                logits=best_logits[row],
            )
            yield image, outcome

    def _verdicts(self, waiting):
        """Let the model itself confirm or deny each success."""
        images = [image for image, _ in waiting]
        points = np.stack([outcome.x_adv for _, outcome in waiting])
        claimed = np.stack([outcome.logits for _, outcome in waiting])
        units = self._judge.units
        whole = units is not None and units.whole is not None
        if whole:
            clean = np.stack([image.x for image in images])
            eps = getattr(self._attack, "eps", None)
            points = units.on_levels(points, clean, self._norm, eps)
            claimed = None
            lengths = ops.convert_to_numpy(self._norm.length(points - clean))
        share, _ = self._judge.wrong(
            self._program,
            points,
            self._labels(images),
            self._size,
            claimed=claimed,
            extra=stack_extra(images),
        )
        share = 1.0 - share if self._reach_target else share
        for row, (image, outcome) in enumerate(waiting):
            outcome = outcome._replace(share=float(share[row]))
            if whole:
                outcome = outcome._replace(
                    x_adv=points[row], distance=float(lengths[row])
                )
            if share[row] <= 0.5:
                # What does not survive its rounding was no false claim.
                outcome = outcome._replace(
                    success=False, distance=float("inf"), denied=not whole
                )
            yield image, outcome


class _Waiting:
    """Images that wait until there are enough for a full batch.

    Args:
        finish: Maps a batch of items to an iterator of `(image, outcome)`.
        full: How many items are a batch.
    """

    def __init__(self, finish, full):
        self._finish, self._full = finish, full
        self._items = []

    def add(self, *item):
        """Take an item in; yield `(image, outcome)`s once a batch is full."""
        self._items.append(item)
        if len(self._items) == self._full:
            yield from self.flush()

    def flush(self):
        """Yield `(image, outcome)` of all that wait."""
        items, self._items = self._items, []
        if items:
            yield from self._finish(items)
