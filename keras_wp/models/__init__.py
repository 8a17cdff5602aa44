"""Networks from images to logits, with any head."""

from keras_wp.models.lipschitz import lipschitz_cnn, lipschitz_mlp
from keras_wp.models.preact_resnet import preact_resnet18
from keras_wp.models.resnet import resnet32
from keras_wp.models.small_cnn import small_cnn
from keras_wp.models.trained import PRETRAINED, card, pretrained
from keras_wp.models.wide_resnet import wide_resnet

__all__ = [
    "PRETRAINED",
    "card",
    "lipschitz_cnn",
    "lipschitz_mlp",
    "preact_resnet18",
    "pretrained",
    "resnet32",
    "small_cnn",
    "wide_resnet",
]
