"""Small 1-Lipschitz networks and their images."""

import keras
import numpy as np
from helpers import to_numpy
from keras import ops

from keras_wp import lipschitz

SHAPE = (4, 4, 2)


def small_network(seed=0, classes=4):
    """A convolution, a dense layer and a head, as they are at first."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input(SHAPE)
    x = lipschitz.AOLConv2D(6, kernel_initializer="glorot_uniform")(inputs)
    x = lipschitz.MaxMin()(x)
    x = keras.layers.Flatten()(x)
    x = lipschitz.MaxMin()(lipschitz.OrthogonalDense(16)(x))
    return keras.Model(inputs, lipschitz.LipschitzHead(classes)(x))


def logits_of(model, x):
    return to_numpy(model(ops.convert_to_tensor(x)))


def labels_of(model, x):
    """What the model predicts, as labels."""
    return logits_of(model, x).argmax(-1).astype(np.int32)
