"""Who decides that an image is fooled: the model itself, called afresh."""

import numpy as np

from keras_wp.engine import predict
from keras_wp.inspection.anatomy import TOLERANCE
from keras_wp.objectives import predicted

# How often a model is asked that does not always answer the same.
FRESH_DRAWS = 32


class Judge:
    """Who decides that an image is fooled: the model, called afresh.

    What an attack has seen on its way may be another function than the model,
    or one draw of a model that is randomized. Where the model's answer is not
    the one that the attack has seen, or `draws` are given, it is asked again,
    `draws` times, and an image is fooled if more than half of the answers are
    wrong.

    Args:
        classifier: The `Classifier`.
        draws: How often a randomized model is asked. None for a model that is
            not known to be randomized.
    """

    def __init__(self, classifier, draws=None):
        self._classifier = classifier
        self._draws = draws
        # What whole numbers an image is to consist of; None for any numbers.
        self.units = classifier.view.units if classifier else None

    def wrong(self, program, x, labels, size, *, claimed, extra=None):
        """`(share, logits)`: which share of the answers is wrong, `(N,)`.

        Args:
            program: The model's forward pass.
            x: The points, `(N, ...)` float32.
            labels: The classes that are right, `(N,)`.
            size: How many images a device works on at a time, at most.
            claimed: The logits that the attack has seen there, or None.
            extra: See `forward`.

        Returns:
            The share, and the logits of the last answer `(N, K)`.
        """
        logits = predict.forward(program, x, size, extra)
        share = (predicted(logits) != labels).astype(float)
        doubtful = np.full(len(x), self._draws is not None)
        if claimed is not None:
            change = np.abs(logits - claimed).max(-1)
            limit = TOLERANCE * np.abs(logits).max(-1)
            # Rounding may decide between two that tie; what is handed out is
            # looked at once more anyhow.
            doubtful |= ~(change <= limit)
        rows = np.flatnonzero(doubtful)
        if len(rows):
            mine = None if extra is None else tuple(e[rows] for e in extra)
            wrong = np.zeros(len(rows))
            draws = self._draws or FRESH_DRAWS
            for _ in range(draws):
                logits[rows] = predict.forward(program, x[rows], size, mine)
                wrong += predicted(logits[rows]) != labels[rows]
            share[rows] = wrong / draws
        return share, logits
