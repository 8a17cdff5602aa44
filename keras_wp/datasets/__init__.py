"""Image classification data, ready for `fit` and attacks."""

from keras_wp.datasets.batching import batches
from keras_wp.datasets.mixing import mix
from keras_wp.datasets.sources import load

__all__ = ["batches", "load", "mix"]
