"""Networks of the paper, and those for certificates: models to logits."""

from keras_wp.models.lipschitz import lipschitz_cnn, lipschitz_mlp
from keras_wp.models.resnet import resnet32
from keras_wp.models.small_cnn import small_cnn
from keras_wp.models.wide_resnet import wide_resnet

__all__ = [
    "lipschitz_cnn",
    "lipschitz_mlp",
    "resnet32",
    "small_cnn",
    "wide_resnet",
]
