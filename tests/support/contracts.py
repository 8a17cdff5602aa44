"""What the tests of contracts and labels share."""

import numpy as np
from helpers import (
    predictions,
)

from keras_wp import attacks

CLASSES = 5

COUNT = 12


class Case:
    """An attack to be tried, with settings that make it short.

    `eps` among the settings is the ball that the attack must keep to; an
    attack without looks for the nearest adversarial image. `targeted` means
    that labels are the classes to aim at. `fools` is the least share of
    images that it must fool.
    """

    def __init__(self, kind, fools=0.5, **settings):
        self.kind = kind
        self.settings = settings
        self.fools = fools

    def __call__(self, **changes):
        return self.kind(**{**self.settings, **changes})

    @property
    def eps(self):
        return self.settings.get("eps")

    @property
    def targeted(self):
        return self.settings.get("targeted", False)

    def labels(self, model, x):
        """Labels that leave each fourth image with nothing to do."""
        y = predictions(model, x)
        other = (y + 1) % CLASSES
        settled = np.arange(len(x)) % 4 == 0
        if self.targeted:
            return np.where(settled, y, other).astype(np.int32)
        return np.where(settled, other, y).astype(np.int32)

    def fooled(self, model, x_adv, y):
        hit = predictions(model, x_adv) == y
        return hit if self.targeted else ~hit


LINF, L2 = 0.1, 0.5

ATTACKS = {
    "fgsm": Case(attacks.FGSM, eps=LINF),
    "fgsm-l2": Case(attacks.FGSM, eps=L2, norm="l2"),
    "pgd": Case(attacks.PGD, eps=LINF, steps=4),
    "pgd-l2-fixed": Case(
        attacks.PGD, eps=L2, steps=4, norm="l2", random_start=False
    ),
    "pgd-restarts": Case(
        attacks.PGD, eps=LINF, steps=3, restarts=3, loss="margin"
    ),
    "pgd-targeted": Case(
        attacks.PGD,
        fools=0.3,
        eps=L2,
        steps=4,
        norm="l2",
        loss="dlr",
        targeted=True,
    ),
    "pgd-kl": Case(
        attacks.PGD,
        fools=0.3,
        eps=LINF,
        steps=4,
        loss="kl_divergence",
        random_start="normal",
    ),
    "apgd": Case(attacks.APGD, eps=LINF, steps=6),
    "apgd-l2-targets": Case(
        attacks.APGD, eps=L2, steps=4, norm="l2", loss="dlr", targets=2
    ),
    "deepfool": Case(attacks.DeepFool, steps=5),
    "deepfool-l2": Case(attacks.DeepFool, steps=5, norm="l2"),
    "fab": Case(attacks.FAB, steps=5),
    "fab-l2-targets": Case(
        attacks.FAB, eps=L2, norm="l2", steps=5, targets=2, early_stop=True
    ),
    "square": Case(attacks.Square, fools=0.15, eps=LINF, steps=25),
    "square-l2": Case(attacks.Square, fools=0.3, eps=L2, steps=25, norm="l2"),
    "carlini-wagner": Case(
        attacks.CarliniWagner,
        steps=10,
        binary_search_steps=2,
        learning_rate=0.1,
        initial_const=1.0,
    ),
    "multi-target": Case(attacks.MultiTarget, eps=LINF, steps=3),
    "multi-target-l2-margin": Case(
        attacks.MultiTarget,
        eps=L2,
        norm="l2",
        steps=3,
        targets=2,
        loss="margin",
        random_start=True,
    ),
    "autoattack": Case(attacks.AutoAttack, eps=LINF, steps=5, queries=10),
}
