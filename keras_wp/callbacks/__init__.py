"""Callbacks for training."""

from keras_wp.callbacks.backup import Backup
from keras_wp.callbacks.best_robust import BestRobust
from keras_wp.callbacks.catastrophic_overfitting import CatastrophicOverfitting
from keras_wp.callbacks.certified_accuracy import CertifiedAccuracy
from keras_wp.callbacks.penalty import Penalty
from keras_wp.callbacks.robust_accuracy import RobustAccuracy
from keras_wp.callbacks.weight_averaging import WeightAveraging

__all__ = [
    "Backup",
    "BestRobust",
    "CatastrophicOverfitting",
    "CertifiedAccuracy",
    "Penalty",
    "RobustAccuracy",
    "WeightAveraging",
]
