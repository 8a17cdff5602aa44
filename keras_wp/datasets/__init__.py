"""Image classification data, ready for `fit` and attacks."""

from keras_wp._streams import folder
from keras_wp.datasets.batching import batches
from keras_wp.datasets.mixing import mix
from keras_wp.datasets.sources import load
from keras_wp.datasets.streamed import stream

__all__ = ["batches", "folder", "load", "mix", "stream"]
