"""Adversarial attacks: immutable objects, called `attack(model, x, y)`."""

from keras_wp.attacks.base import Attack
from keras_wp.attacks.gradient import FGSM, PGD

__all__ = ["FGSM", "PGD", "Attack"]
