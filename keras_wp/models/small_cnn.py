"""The small network of the paper: four convolutions, three dense layers."""

import keras

from keras_wp.models import heads

# One channel: the form for MNIST. Otherwise: the form for CIFAR.
GREY_WIDTHS, GREY_DENSE = (32, 32, 64, 64), (200, 200)
COLOR_WIDTHS, COLOR_DENSE = (64, 64, 128, 128), (256, 256)
# Two unpadded 3x3 convolutions and a halving, twice, leave 1 pixel of 16.
SMALLEST_IMAGE = 16


def small_cnn(
    input_shape,
    num_classes,
    head="robust",
    activation="tanh",
    s=0.1,
    alpha=100.0,
    mean=None,
    std=None,
    widths=None,
    dense=None,
    name="small_cnn",
    hidden_activation="relu",
):
    """The small convolutional network of the paper (section 4.2).

    Four unpadded 3x3 convolutions, a 2x2 max-pooling after every second one,
    two dense layers and the head. Each convolution and dense layer is followed
    by batch normalization and ReLU; the last dense layer by batch
    normalization and the head, which starts with `activation`. (The authors'
    code for MNIST has the ReLU of the first dense layer before the batch
    normalization, which the paper does not say.)

    The number of channels decides the default sizes: images with one channel
    get the MNIST form (convolutions 32-32-64-64, dense 200-200), all others
    the CIFAR form (64-64-128-128, 256-256).

    Args:
        input_shape: `(height, width, channels)`, 16x16 or larger; images are
            in [0, 1].
        num_classes: Number of classes `K`, at least 2.
        head: `"robust"` for `keras_wp.RobustHead`, `"plain"` for the same
            activation and an ordinary dense layer, `"hypersphere"` for the
            same activation and `keras_wp.layers.HypersphereHead`, `"mmc"` for
            `keras_wp.layers.MaxMahalanobisHead`, or a Keras layer that maps
            `(N, P)` batch-normalized features to `(N, K)` logits.
        activation: Activation of the features that the head classifies: a
            name (`"tanh"`, `"relu"`, `"leaky_relu"`, `"prelu"`, ...), a
            function or a layer. Not used by `"mmc"` and layers.
        s: Length of the class weights, above 0 (`"robust"` only).
        alpha: Weight of the penalty, at least 0 (`"robust"` only).
        mean: Mean to subtract from the images inside the network, a number or
            one for each channel. Defaults to none.
        std: Deviation to divide by, as `mean`.
        widths: Four numbers of convolution filters, to override the rule.
        dense: Two numbers of dense units, to override the rule. The last is
            the feature dimension `P`; the robust head needs `K <= P + 1`.
        name: Name of the model.
        hidden_activation: Activation of all layers but the last: a name that
            `keras.activations` has, such as `"silu"`, or a function. `relu` is
            the paper's; smooth ones gain robust accuracy in adversarial
            training (Xie et al., "Smooth adversarial training", 2020; Gowal et
            al., "Uncovering the limits of adversarial training", 2020).

    Returns:
        A functional `keras.Model` from `(N, H, W, C)` images to `(N, K)`
        logits. Its last layer is named `"head"`, unless it was given.

    Raises:
        ValueError: if an argument is not as described.

    Source: Xu, Li and Yang, "Improve Adversarial Robustness via Weight
    Penalization on Classification Layer", section 4.2.

    Example:

    >>> model = keras_wp.models.small_cnn((28, 28, 1), num_classes=10)
    >>> model.output_shape
    (None, 10)
    """
    shape = heads.check_network_arguments(
        input_shape, num_classes, SMALLEST_IMAGE
    )
    heads.check_hidden(hidden_activation)
    usual = sizes(shape[-1])
    widths = widths or usual["widths"]
    dense = dense or usual["dense"]
    _check_sizes("widths", widths, 4)
    _check_sizes("dense", dense, 2)

    images = keras.Input(shape, name="images")
    x = heads.normalize(images, mean, std)
    for block in (widths[:2], widths[2:]):
        for filters in block:
            # Batch normalization makes a bias idle.
            x = keras.layers.Conv2D(filters, 3, use_bias=False)(x)
            x = heads.hidden(hidden_activation)(heads.batch_norm()(x))
        x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(dense[0], use_bias=False)(x)
    x = heads.hidden(hidden_activation)(heads.batch_norm()(x))
    x = keras.layers.Dense(dense[1], use_bias=False)(x)
    x = heads.batch_norm()(x)
    logits = heads.classify(
        x, num_classes, head, activation=activation, s=s, alpha=alpha
    )
    return keras.Model(images, logits, name=name)


def sizes(channels, narrow=1):
    """The paper's `widths` and `dense`, divided by a number."""
    widths, dense = COLOR_WIDTHS, COLOR_DENSE
    if channels == 1:
        widths, dense = GREY_WIDTHS, GREY_DENSE
    return {
        "widths": [width // narrow for width in widths],
        "dense": [width // narrow for width in dense],
    }


def _check_sizes(name, sizes, count):
    if len(sizes) != count or not all(
        isinstance(n, int) and n > 0 for n in sizes
    ):
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected {count} integers "
            f"above 0. Received: {name}={sizes}"
        )
