"""Masks in the middle of a network."""

import functools

import keras
from bases import (
    CLASSES,
    FEATURES,
    HIDDEN,
    SHAPE,
    SLOPES,
    Averaged,
    Do,
    Through,
    batch_norm,
    clipped,
    hidden_network,
    identity,
    masked,
    relative,
    scaled,
    sequential,
    slopes,
    steeper,
    trained,
)
from keras import ops


def hidden(
    function,
    training="plain",
    build=hidden_network,
    first=ops.tanh,
    backward=SLOPES,
    own_gradient=False,
):
    """A function in the middle of a network, which is trained for it.

    Args:
        function: What masks.
        training: `"plain"` or `"adversarial"`.
        build: Takes the maker of the layer, and returns the network.
        first: The function to begin training with, or None.
        backward: Functions that have the slopes of the twins.
        own_gradient: Whether to train with the mask's own derivative, not
            with that of the first twin.
    """
    softs = [lambda b=b: Through(function, b) for b in backward]
    weights = trained(
        build,
        (lambda: Do(function)) if own_gradient else softs[0],
        training,
        first and (lambda: Do(first)),
    )
    return masked(build, lambda: Do(function), softs, weights, trained=training)


def tanh(factor, training="plain"):
    return hidden(scaled(ops.tanh, factor), training)


def conv_network(mask):
    """A mask after the first convolution, which has to halve the image."""
    return sequential(
        keras.layers.Conv2D(8, 3),
        batch_norm(),
        mask(),
        keras.layers.Conv2D(16, 3, activation="relu"),
        keras.layers.MaxPooling2D(2),
        keras.layers.Flatten(),
        keras.layers.Dense(FEATURES, activation="relu"),
        keras.layers.Dense(CLASSES),
    )


def pooled(u):
    return ops.max_pool(u, 2)


def after_convolution():
    return hidden(
        lambda u: clipped(30.0 * ops.average_pool(u, 2)),
        build=conv_network,
        first=lambda u: ops.tanh(ops.average_pool(u, 2)),
        backward=[
            lambda u: ops.tanh(ops.average_pool(u, 2)),
            lambda u: ops.average_pool(u, 2),
            lambda u: steeper(ops.average_pool(u, 2)),
            lambda u: ops.tanh(10.0 * ops.average_pool(u, 2)),
        ],
    )


def pool_of_saturated():
    """Where many units are 1, the maximum has the gradient of any one."""
    return hidden(
        lambda u: pooled(ops.tanh(30.0 * u)),
        build=conv_network,
        first=lambda u: ops.tanh(pooled(u)),
        backward=[
            lambda u: ops.tanh(pooled(u)),
            pooled,
            lambda u: ops.average_pool(u, 2),
        ],
    )


def winners(u, share=0.1):
    """The largest units, and 0 for the others."""
    count = max(1, int(share * u.shape[-1]))
    least = ops.top_k(u, count)[0][..., -1:]
    return ops.where(u >= least, u, ops.zeros_like(u))


def winners_take_all(training="plain"):
    """Xiao, Zhong and Zheng, ICLR 2020; trained as there."""
    found = hidden(
        winners,
        training,
        first=None,
        backward=(identity, ops.tanh, winners),
        own_gradient=True,
    )
    twin, *more = [Averaged(found.model, d) for d in (0.03, 0.1)]
    return found._replace(others=(*found.others[:1], twin, *more))


def levels(u, count=8):
    """A bounded activation that has so many values."""
    return ops.round(ops.sigmoid(2.0 * u) * (count - 1)) / (count - 1)


def groups(u, temperature):
    """A softmax over each four units."""
    shape = ops.shape(u)
    parts = ops.reshape(u, (-1, u.shape[-1] // 4, 4))
    return ops.reshape(ops.softmax(parts / temperature), shape)


def cold_groups():
    return hidden(
        lambda u: groups(u, 0.01),
        first=lambda u: groups(u, 1.0),
        backward=[lambda u: groups(u, 1.0), identity],
    )


def gated(mask):
    """Four experts, of which a gate chooses."""
    images = keras.Input(SHAPE)
    h = keras.layers.Flatten()(images)
    h = keras.layers.Dense(HIDDEN, activation="relu")(h)
    gate = keras.layers.Dense(4)(h)
    gate = mask()(batch_norm()(gate))
    experts = keras.layers.Dense(4 * CLASSES, activation="tanh")(h)
    experts = keras.layers.Reshape((4, CLASSES))(experts)
    return keras.Model(images, ops.sum(4.0 * gate[..., None] * experts, 1))


def cold_gate():
    return hidden(
        lambda u: ops.softmax(u / 0.003),
        build=gated,
        first=ops.softmax,
        backward=[ops.softmax, lambda u: ops.softmax(u / 0.3), identity],
    )


class Places(keras.layers.Layer):
    """Adds what tells places apart."""

    def build(self, shape):
        self.places = self.add_weight(
            shape=shape[1:], initializer="random_normal"
        )

    def call(self, inputs):
        return inputs + self.places


def attentive(mask):
    """One query per patch of 4x4 pixels; the mask makes weights of scores."""
    images = keras.Input(SHAPE)
    parts = keras.layers.Conv2D(24, 4, strides=4, activation="relu")(images)
    parts = keras.layers.Reshape((49, 24))(parts)
    parts = Places()(parts)
    query = keras.layers.Dense(24)(parts)
    key = keras.layers.Dense(24)(parts)
    score = ops.matmul(query, ops.transpose(key, (0, 2, 1))) / 5.0
    mixed = ops.matmul(mask()(score), keras.layers.Dense(24)(parts))
    mixed = keras.layers.Flatten()(mixed)
    return keras.Model(images, keras.layers.Dense(CLASSES)(mixed))


def cold_attention():
    return hidden(
        lambda u: ops.softmax(u / 0.02),
        build=attentive,
        first=ops.softmax,
        backward=[ops.softmax, lambda u: ops.softmax(u / 0.1)],
    )


def residual(mask):
    images = keras.Input(SHAPE)
    h = keras.layers.Flatten()(images)
    h = batch_norm()(keras.layers.Dense(HIDDEN)(h))
    h = mask()(h)
    inner = batch_norm()(keras.layers.Dense(HIDDEN)(h))
    h = h + keras.layers.Dense(HIDDEN)(mask()(inner))
    return keras.Model(images, keras.layers.Dense(CLASSES)(h))


def twice(masks):
    """A mask in the first hidden layer, and one in the last."""
    first, last = masks
    return sequential(
        keras.layers.Flatten(),
        keras.layers.Dense(HIDDEN),
        batch_norm(),
        first(),
        keras.layers.Dense(FEATURES),
        batch_norm(),
        last(),
        keras.layers.Dense(CLASSES),
    )


def several(training="plain"):
    functions = scaled(ops.tanh, 20.0), scaled(ops.tanh, 30.0)
    softs = list(zip(*map(slopes, functions), strict=True))
    soft = lambda: Do(ops.tanh)  # noqa: E731
    weights = trained(twice, softs[0], training, (soft, soft))
    real = [lambda f=f: Do(f) for f in functions]
    return masked(twice, real, softs, weights, trained=training)


MIDDLES = {
    **{
        f"tanh x{factor}, first hidden layer, dense": functools.partial(
            tanh, float(factor)
        )
        for factor in (20, 30, 100, 300)
    },
    **{
        f"tanh x{factor}, hidden, adversarial": functools.partial(
            tanh, float(factor), "adversarial"
        )
        for factor in (10, 30)
    },
    "clip x30 after the first convolution": after_convolution,
    "k winners take all": winners_take_all,
    "k winners take all, adversarial": lambda: winners_take_all("adversarial"),
    "sigmoid x50, hidden": lambda: hidden(
        scaled(ops.sigmoid, 50.0),
        first=ops.sigmoid,
        backward=(ops.sigmoid, identity, relative, steeper),
    ),
    "hard_tanh x30, hidden": lambda: hidden(scaled(clipped, 30.0)),
    "softsign x1e3, hidden": lambda: hidden(scaled(ops.softsign, 1e3)),
    "relu6 x60, hidden": lambda: hidden(
        lambda u: ops.relu6(60.0 * u) / 6.0, first=ops.sigmoid
    ),
    "tanh x20 first and tanh x30 last": several,
    "tanh x20 first and tanh x30 last, adversarial": lambda: several(
        "adversarial"
    ),
    "8 levels, hidden": lambda: hidden(levels, first=ops.sigmoid),
    "sign, hidden": lambda: hidden(ops.sign),
    "sign, hidden, adversarial": lambda: hidden(ops.sign, "adversarial"),
    "softmax of four units at 0.01": cold_groups,
    "gate at temperature 0.003": cold_gate,
    "attention at temperature 0.02": cold_attention,
    "max-pool of tanh x30": pool_of_saturated,
    "tanh x30 in and before a residual block": lambda: hidden(
        scaled(ops.tanh, 30.0), build=residual
    ),
}
