"""Perturbations that have fooled the model for some images, tried on others.

Source: Liu, Chen, Liu and Song, "Delving into transferable adversarial
examples and black-box attacks" (ICLR 2017), between models; here between the
images of a class.
"""

import numpy as np
from keras import ops

from keras_wp import norms, objectives
from keras_wp.engine import predict

# So many are tried on an image.
_TRIED = 8


class Donors:
    """The perturbations found for images that are kept, by class.

    Args:
        session: The `Session`.
        attack: The attack that is to begin there: its norm, budget and bounds.
        pictures: The `Pictures` of its own run, beside those of earlier ones.
        lending: `(n,)` bool, the images whose perturbations are taken.
    """

    def __init__(self, session, attack, pictures, lending):
        self._session, self._bounds = session, attack.bounds
        self._found = {}
        keeper, norm = session.keeper, norms.get(attack.norm)
        runs = [*(pictures for _, pictures in session.kept), pictures]
        lenders = [i for i in keeper.donors if lending[i]]
        for i, image in keeper.images(lenders):
            mine = self._found.setdefault(int(keeper.labels[i]), [])
            for run in runs:
                x_adv = run.get(keeper.identities[i])
                if x_adv is not None:
                    delta = norm.project((x_adv - image)[None], attack.eps)
                    mine.append(ops.convert_to_numpy(delta)[0])

    def start(self, i, image):
        """Where an attack on an image begins: the most promising point.

        Args:
            i: Its number.
            image: The image.
        """
        session = self._session
        label = int(session.clean.labels[i])
        found = self._found.get(label)
        if not found:
            return image
        points = np.clip(image + np.stack(found[-_TRIED:]), *self._bounds)
        points = points.astype(np.float32)
        logits = predict.logits(session.classifier, points, session.batch_size)
        labels = np.full(len(points), label)
        margin = objectives.adversarial_margin(logits, labels, False)
        return points[int(margin.argmax())]
