"""Callbacks for training."""

from keras_wp.callbacks.certified_accuracy import CertifiedAccuracy
from keras_wp.callbacks.penalty import Penalty
from keras_wp.callbacks.robust_accuracy import RobustAccuracy

__all__ = ["CertifiedAccuracy", "Penalty", "RobustAccuracy"]
