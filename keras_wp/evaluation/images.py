"""Adversarial images that outlive an attack: a few for the report, or all.

All of them are kept on disk, so that memory does not grow with the data, and
beside the outcomes, so that a resumed evaluation has them.
"""

import math
import pathlib
import tempfile

import numpy as np

from keras_wp.engine import predict
from keras_wp.evaluation.resume import stem
from keras_wp.objectives import predicted
from keras_wp.reports.samples import Attempt, Sample, room

# So many images of a class lend others their perturbations, and so many
# numbers in all of these.
_DONORS, _DONOR_NUMBERS = 8, 20_000_000


class Pictures:
    """What one attack with one budget made of the images that are kept.

    Args:
        wanted: The images' identities.
        path: A file to keep them in, or None for memory.
        shards: Whether to take in what shards have kept, in folders `shard-*`
            beside the file.
    """

    def __init__(self, wanted, path, shards=False):
        self._places = {identity: i for i, identity in enumerate(wanted)}
        self._path = path
        self._rows = None
        if path is not None and path.exists():
            rows = np.load(path, mmap_mode="r+")
            self._rows = rows if len(rows) == len(self._places) else None
        if path is not None and shards:
            for other in sorted(path.parent.glob(f"shard-*/{path.name}")):
                self._take(np.load(other, mmap_mode="r"))

    def _take(self, rows):
        for place, name in enumerate(rows["identity"]):
            if name and self.lacks(name.decode()):
                self.put(name.decode(), rows["x_adv"][place])

    def lacks(self, identity):
        """Whether this image is wanted and not there yet."""
        place = self._places.get(identity)
        if place is None:
            return False
        return self._rows is None or not self._holds(identity, place)

    def put(self, identity, x_adv):
        """Keep an adversarial image, if it is wanted."""
        place = self._places.get(identity)
        if place is None:
            return
        if self._rows is None:
            self._rows = self._empty(x_adv.shape)
        self._rows["x_adv"][place] = x_adv
        # Last: an image that a kill has torn has no name.
        self._rows["identity"][place] = identity.encode()

    def get(self, identity):
        """An adversarial image; None if the attack has found none."""
        place = self._places.get(identity)
        if place is None or self._rows is None:
            return None
        held = self._holds(identity, place)
        return np.array(self._rows["x_adv"][place]) if held else None

    def _holds(self, identity, place):
        return self._rows["identity"][place] == identity.encode()

    def _empty(self, shape):
        kind = np.dtype([("identity", "S40"), ("x_adv", "<f4", shape)])
        if self._path is None:
            return np.zeros(len(self._places), kind)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return np.lib.format.open_memmap(
            self._path, "w+", kind, (len(self._places),)
        )


class Keeper:
    """Which images are kept, and where.

    Args:
        data: The `Data`.
        clean: Its `Clean` pass.
        attacks: How many attacks there are.
        everything: Whether all adversarial images are kept, instead of those
            of a few samples.
        donors: Whether those are kept whose perturbations others may borrow.
        directory: A directory for them, or None for a temporary one.
    """

    def __init__(
        self,
        data,
        clean,
        attacks,
        *,
        everything=False,
        donors=False,
        directory=None,
    ):
        self._data = data
        self.identities = clean.identities
        self.labels = clean.labels
        self._temporary = None
        if everything and directory is None:
            self._temporary = tempfile.TemporaryDirectory()
            directory = self._temporary.name
        self._directory = directory and pathlib.Path(directory)
        size, correct = math.prod(clean.shape), np.flatnonzero(clean.correct)
        # The first image of each class that is classified correctly.
        first = self._of_each_class(correct, 1)
        self.sampled = first[: room(size, attacks)]
        self.donors = []
        if donors:
            some = self._of_each_class(
                sorted(correct, key=self.identities.__getitem__), _DONORS
            )
            self.donors = some[: _DONOR_NUMBERS // (size * (attacks + 1))]
        chosen = [*self.sampled, *self.donors]
        if everything:
            chosen = range(len(self.labels))
        self._wanted = list(dict.fromkeys(self.identities[i] for i in chosen))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self._temporary is not None:
            self._temporary.cleanup()

    def pictures(self, attack):
        """The `Pictures` of an attack, with the budget it has."""
        path = None
        if self._directory is not None:
            name = stem(attack.label, {**attack.config(), "name": None})
            path = self._directory / f"{name}.npy"
        # What is lent to others must be what this evaluation has found.
        shards = not any(part.wants_start for part in attack.parts)
        return Pictures(self._wanted, path, shards)

    def images(self, indices):
        """Yield `(index, image)` for these images, in the data's order."""
        places = {}
        for i in indices:
            places.setdefault(self.identities[i], []).append(i)
        if not places:
            return
        for name, image in self._data.named():
            for i in places.pop(name, ()):
                yield i, image
            if not places:
                return

    def on_disk(self, name, images):
        """An array on disk, `(n, ...)`, in the order of the outcomes.

        Args:
            name: The name of its file.
            images: Pairs of an index and an image, one for each.
        """
        array = None
        for i, image in images:
            if array is None:
                array = np.lib.format.open_memmap(
                    self._directory / f"{name}.npy",
                    "w+",
                    np.float32,
                    (len(self.labels), *image.shape),
                )
            array[i] = image
        return array

    def _of_each_class(self, order, most):
        """The first of these images in each class, so many at most."""
        by_class = {}
        for i in order:
            by_class.setdefault(int(self.labels[i]), []).append(int(i))
        return [i for label in sorted(by_class) for i in by_class[label][:most]]


def collect(keeper, kept, classifier, batch_size):
    """The report's samples.

    Args:
        keeper: The evaluation's `Keeper`.
        kept: For each attack, with its largest eps last, its `AttackResult`s
            and `Pictures`.
        classifier: The `Classifier`.
        batch_size: How many images go through the model at a time, at most.

    Returns:
        A tuple of `Sample`.
    """
    largest = {}
    for results, pictures in kept:
        result = results[-1]
        largest[result.name, result.norm] = (result, pictures)
    names = [name for name, _ in largest]
    images = dict(keeper.images(keeper.sampled))
    # Pictures may be of an earlier run, or lie outside of eps.
    found = {
        (i, key): pictures.get(keeper.identities[i])
        for i in images
        for key, (result, pictures) in largest.items()
        if result.attacked[i] and not result.robust[i]
    }
    classes = {}
    if found:
        x = np.stack(list(found.values()))
        logits = predict.logits(classifier, x, batch_size)
        classes = dict(zip(found, predicted(logits).tolist(), strict=True))
    return tuple(
        Sample(
            index=i,
            label=int(keeper.labels[i]),
            image=images[i],
            attempts=tuple(
                Attempt(
                    *key,
                    float(result.distance[i]),
                    classes[i, key],
                    found[i, key],
                )
                for key, (result, _) in largest.items()
                if (i, key) in found
            ),
            resisted=tuple(
                name if names.count(name) == 1 else f"{name} ({norm})"
                for (name, norm), (result, _) in largest.items()
                if result.robust[i]
            ),
        )
        for i in keeper.sampled
    )
