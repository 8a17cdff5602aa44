"""Masks in the last activation, and ways to write it that hide it."""

import keras
import numpy as np
from bases import (
    FEATURES,
    SHAPE,
    Do,
    Masked,
    clipped,
    copy,
    layers_of,
    robust_head,
    scaled,
    sequential,
    slopes,
    trunk,
)
from keras import ops


def dense(kernel, bias=None):
    """A built output layer: `kernel` of shape `(units, 10)`."""
    layer = keras.layers.Dense(kernel.shape[1])
    layer.build((None, kernel.shape[0]))
    zeros = np.zeros(kernel.shape[1])
    layer.set_weights([kernel, zeros if bias is None else bias])
    return layer


def head_network(layers, kernel, kind="dense", training="plain", bias=None):
    """A trained trunk, layers, and an output layer."""
    features, _ = trunk(kind, training)
    return sequential(*layers_of(features), *layers, dense(kernel, bias))


def on_head(function, kind="dense", training="plain", ends=(-1, 1)):
    """A function in the place of the trunk's `tanh`.

    Args:
        function: The activation.
        kind: Of the trunk.
        training: Of the trunk.
        ends: Where the function levels off; the output layer is adapted to
            have the same logits there.
    """
    low, high = ends
    _, kernel = trunk(kind, training)
    gain = 2 / (high - low)
    offset = -gain * (low + high) / 2
    bias = offset * kernel.sum(0)

    def build(layer):
        return head_network([layer()], gain * kernel, kind, training, bias)

    model = build(lambda: Do(function))
    twin, *others = [build(soft) for soft in slopes(function)]
    return Masked(model, twin, trained=training, others=tuple(others))


def robust(factor, kind="dense", training="plain"):
    """The head of the library, with pre-activations that are scaled."""
    features, kernel = trunk(kind, training)
    head = robust_head()
    rescaling = keras.layers.Rescaling(factor)
    model = sequential(*layers_of(features), rescaling, head)
    head.dense.set_weights([kernel])
    twins = on_head(scaled(ops.tanh, factor), kind, training)
    return twins._replace(model=model)


def steep(u):
    return ops.tanh(30.0 * u)


def written_as(end):
    """A tanh x30, whose twins are known, written otherwise.

    Args:
        end: Takes symbolic features and the kernel; returns logits.
    """
    features, kernel = trunk()
    model = keras.Model(features.inputs, end(features.outputs[0], kernel))
    return on_head(steep)._replace(model=model)


def with_operation():
    return written_as(lambda u, k: dense(k)(ops.tanh(30.0 * u)))


def with_lambda():
    def end(u, kernel):
        layer = keras.layers.Lambda(steep, output_shape=(FEATURES,))
        return dense(kernel)(layer(u))

    return written_as(end)


class OneLayer(keras.layers.Layer):
    """The activation and the output layer in one."""

    def __init__(self, output, **kwargs):
        super().__init__(**kwargs)
        self.last = output

    def call(self, inputs):
        return self.last(ops.tanh(30.0 * inputs))


def in_one_layer():
    return written_as(lambda u, k: OneLayer(dense(k))(u))


class Opaque(keras.layers.Layer):
    """A tanh by the backend's own functions, which symbols do not pass."""

    def call(self, inputs):
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            return tf.math.tanh(30.0 * tf.convert_to_tensor(inputs))
        import jax.numpy as jnp

        return jnp.tanh(30.0 * jnp.asarray(inputs))

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, inputs.dtype)


def of_the_backend():
    return written_as(lambda u, k: dense(k)(Opaque()(u)))


class Untraceable(Opaque):
    """The same, which cannot even say what comes out of it."""

    def compute_output_spec(self, inputs):
        raise TypeError(f"Expected numbers. Received: {type(inputs)}")


class Subclassed(keras.Model):
    """A model whose layers are called as it likes."""

    def __init__(self, features, activation, output):
        super().__init__()
        self.features, self.last = features, output
        self.activation_of_mine = activation

    def call(self, inputs):
        return self.last(self.activation_of_mine(self.features(inputs)))


def subclassed(activation=steep):
    features, kernel = trunk()
    model = Subclassed(features, activation, dense(kernel))
    model(np.zeros((1, *SHAPE), np.float32))
    return on_head(steep)._replace(model=model)


def plain_function():
    features, kernel = trunk()
    last = dense(kernel)

    def model(x, training=False):
        return last(ops.tanh(30.0 * features(x, training=training)))

    model.variables = [*features.variables, *last.variables]
    return on_head(steep)._replace(model=model)


def nested():
    features, kernel = trunk()
    inputs = keras.Input((FEATURES,))
    end = keras.layers.Activation("tanh")(keras.layers.Rescaling(30.0)(inputs))
    end = keras.Model(inputs, dense(kernel)(end))
    images = keras.Input(SHAPE)
    outer = keras.Model(images, end(features(images)))
    return on_head(steep)._replace(model=outer)


def reused():
    """The output layer and the activation belong to another model, too."""
    features, kernel = trunk()
    activation, last = keras.layers.Activation("tanh"), dense(kernel)
    other = keras.Input((FEATURES,))
    keras.Model(other, last(activation(other)))
    u = keras.layers.Rescaling(30.0)(features.outputs[0])
    model = keras.Model(features.inputs, last(activation(u)))
    return on_head(steep)._replace(model=model)


def flipped():
    """Calls itself with the negative of an image."""

    class Flipped(keras.Model):
        def call(self, inputs, training=None, mask=None):
            return super().call(1.0 - inputs, training=training, mask=mask)

    features, kernel = trunk()
    weights = features.get_weights()
    weights[1] = weights[1] + weights[0].sum(0)
    weights[0] = -weights[0]
    features.set_weights(weights)
    u = keras.layers.Rescaling(30.0)(features.outputs[0])
    u = keras.layers.Activation("tanh")(u)
    model = Flipped(features.inputs, dense(kernel)(u))
    return on_head(steep)._replace(model=model)


def two_branches(end, training="plain"):
    """Two trunks of one input, each with its activation.

    Args:
        end: Takes two tensors of activations and two kernels; returns logits.
        training: Of both trunks.
    """
    first, k = trunk("dense", training)
    second, other_k = trunk("cnn", training)

    def build(layer):
        one, two = copy(first), copy(second)
        images = keras.Input(SHAPE)
        h, g = layer()(one(images)), layer()(two(images))
        return keras.Model(images, end(h, g, k, other_k))

    model = build(lambda: Do(steep))
    twin, *others = [build(soft) for soft in slopes(steep)]
    return Masked(model, twin, trained=training, others=tuple(others))


def concatenated():
    def end(h, g, k, other_k):
        joined = keras.layers.Concatenate()([h, g])
        return dense(np.concatenate([k, other_k]) / 2)(joined)

    return two_branches(end)


def added():
    return two_branches(lambda h, g, k, o: dense(k)(h) + dense(o)(g))


def reversed_classes():
    return written_as(
        lambda u, k: dense(k[:, ::-1])(ops.tanh(30.0 * u))[:, ::-1]
    )


def before_output(layer):
    """A layer between a tanh x30 and the output layer."""
    _, kernel = trunk()

    def build(mask):
        return head_network([mask(), layer()], kernel)

    model = build(lambda: keras.layers.Activation(steep))
    twin, *others = [build(soft) for soft in slopes(steep)]
    return Masked(model, twin, others=tuple(others))


def hard_sigmoid(u):
    return ops.hard_sigmoid(30.0 * u)


HEADS = {
    "tanh x3, head, dense": lambda: robust(3.0),
    "tanh x30, head, dense": lambda: robust(30.0),
    "tanh x100, head, cnn": lambda: robust(100.0, "cnn"),
    "tanh x300, head, dense": lambda: robust(300.0),
    "tanh x30, head, adversarial dense": lambda: robust(
        30.0, "dense", "adversarial"
    ),
    "tanh x30, head, adversarial cnn": lambda: robust(
        30.0, "cnn", "adversarial"
    ),
    "sigmoid x30, head": lambda: on_head(
        scaled(ops.sigmoid, 30.0), ends=(0, 1)
    ),
    "hard_sigmoid x30, head": lambda: on_head(hard_sigmoid, ends=(0, 1)),
    "softsign x1e4, head": lambda: on_head(scaled(ops.softsign, 1e4)),
    "clip x30, head": lambda: on_head(scaled(clipped, 30.0)),
    "tanh x30, keras.ops": with_operation,
    "tanh x30, Lambda": with_lambda,
    "tanh x30, one layer with its Dense": in_one_layer,
    "tanh x30, backend's own function": of_the_backend,
    "tanh x30, subclassed model": subclassed,
    "tanh x30, cannot be traced": lambda: subclassed(Untraceable()),
    "tanh x30, plain function": plain_function,
    "tanh x30, nested functional": nested,
    "tanh x30, reused head": reused,
    "tanh x30, call(1 - x)": flipped,
    "tanh x30, two branches concatenated": concatenated,
    "tanh x30, two heads added": added,
    "tanh x30, classes reversed": reversed_classes,
    "tanh x30, GaussianNoise before Dense": lambda: before_output(
        lambda: keras.layers.GaussianNoise(0.1)
    ),
    "tanh x30, UnitNormalization before Dense": lambda: before_output(
        keras.layers.UnitNormalization
    ),
}
