"""Adversarial robustness for Keras 3: a robust head, and the truth about it."""

from keras_wp import initializers, layers, simplex
from keras_wp.layers import RobustHead
from keras_wp.regularizers import SimplexRegularizer

__version__ = "0.1.0"
