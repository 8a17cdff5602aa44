"""Defenses: models that train the model inside them on attacked images."""

from keras_wp.defenses.adversarial_training import AdversarialTraining
from keras_wp.defenses.awp import AWP
from keras_wp.defenses.base import Defense
from keras_wp.defenses.fast_adversarial_training import FastAdversarialTraining
from keras_wp.defenses.mart import MART
from keras_wp.defenses.trades import TRADES

__all__ = [
    "AWP",
    "MART",
    "TRADES",
    "AdversarialTraining",
    "Defense",
    "FastAdversarialTraining",
]
