"""The networks of the paper, as ordinary Keras models that return logits."""

from keras_wp.models.small_cnn import small_cnn

__all__ = ["small_cnn"]
