"""Classification heads."""

from keras_wp.layers.hypersphere import HypersphereHead
from keras_wp.layers.max_mahalanobis import MaxMahalanobisHead
from keras_wp.layers.robust_head import RobustHead

__all__ = ["HypersphereHead", "MaxMahalanobisHead", "RobustHead"]

# Files and interrupted evaluations name them by the place where they are
# public, and did so before there was a file for each.
for _head in (HypersphereHead, MaxMahalanobisHead, RobustHead):
    _head.__module__ = __name__
