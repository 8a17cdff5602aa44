"""Layers that stretch no distance, and the head that makes a proof of it."""

from keras_wp.lipschitz.conv import AOLConv2D
from keras_wp.lipschitz.dense import AOLDense, OrthogonalDense
from keras_wp.lipschitz.head import LipschitzHead
from keras_wp.lipschitz.units import L2Pooling, MaxMin, SpaceToDepth

__all__ = [
    "AOLConv2D",
    "AOLDense",
    "L2Pooling",
    "LipschitzHead",
    "MaxMin",
    "OrthogonalDense",
    "SpaceToDepth",
]
