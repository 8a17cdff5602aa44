"""The networks of the paper, as ordinary Keras models that return logits."""

from keras_wp.models.resnet import resnet32
from keras_wp.models.small_cnn import small_cnn
from keras_wp.models.wide_resnet import wide_resnet

__all__ = ["resnet32", "small_cnn", "wide_resnet"]
