"""Defenses: models that train the model inside them on attacked images."""

from keras_wp.defenses.adversarial_training import AdversarialTraining
from keras_wp.defenses.base import Defense
from keras_wp.defenses.mart import MART
from keras_wp.defenses.trades import TRADES

__all__ = ["MART", "TRADES", "AdversarialTraining", "Defense"]
