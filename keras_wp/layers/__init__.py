"""Classification heads."""

from keras_wp.layers.hypersphere import HypersphereHead
from keras_wp.layers.max_mahalanobis import MaxMahalanobisHead
from keras_wp.layers.robust_head import RobustHead

__all__ = ["HypersphereHead", "MaxMahalanobisHead", "RobustHead"]
