"""Perturbations that have fooled the model for some images, tried on others.

Source: Liu, Chen, Liu and Song, "Delving into transferable adversarial
examples and black-box attacks" (ICLR 2017), between models; here between the
images of a class.
"""

import numpy as np
from keras import ops

from keras_wp import norms, objectives

# So many are tried on an image.
_TRIED = 8


class Donors:
    """The perturbations found for images that are kept, by class.

    Args:
        keeper: The evaluation's `Keeper`.
        pictures: The `Pictures` of the runs.
        attack: The attack that is to begin there: its norm, budget and bounds.
        lending: `(n,)` bool, the images whose perturbations are taken.
    """

    def __init__(self, keeper, pictures, attack, lending):
        self._bounds = attack.bounds
        self._found = {}
        norm = norms.get(attack.norm)
        lenders = [i for i in keeper.donors if lending[i]]
        for i, image in keeper.images(lenders):
            identity = keeper.identities[i]
            mine = self._found.setdefault(int(keeper.labels[i]), [])
            for picture in pictures:
                x_adv = picture.get(identity)
                if x_adv is None:
                    continue
                delta = (x_adv - image)[None]
                delta = ops.convert_to_numpy(norm.project(delta, attack.eps))
                mine.append(delta[0])

    def start(self, label, image, logits):
        """Where an attack on an image begins: the most promising point.

        Args:
            label: Its label.
            image: The image.
            logits: Maps points `(N, ...)` to logits, on the host.
        """
        found = self._found.get(label, ())
        if not found:
            return image
        points = np.clip(image + np.stack(found[-_TRIED:]), *self._bounds)
        points = points.astype(np.float32)
        labels = np.full(len(points), label)
        margin = objectives.adversarial_margin(logits(points), labels, False)
        return points[int(margin.argmax())]
