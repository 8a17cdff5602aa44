"""Wide residual networks, with the head that the paper puts on them."""

import keras

from keras_wp.models import heads, residual

# Three stages; the stem has 16 filters, the stages `width` times these.
STEM, STAGES = 16, (16, 32, 64)


def wide_resnet(
    depth=34,
    width=10,
    input_shape=(32, 32, 3),
    num_classes=10,
    head="robust",
    activation="tanh",
    s=0.1,
    alpha=100.0,
    mean=None,
    std=None,
    name=None,
    hidden_activation="relu",
):
    """A wide residual network, WRN-34-10 by default.

    A 3x3 convolution with 16 filters, three stages of `(depth - 4) / 6`
    blocks with `16 * width`, `32 * width` and `64 * width` filters, the second
    and the third of which halve the image, and the head. A block is
    `x + conv(relu(bn(conv(relu(bn(x))))))`; a 1x1 convolution of
    `relu(bn(x))` takes the place of `x` where the shape changes.

    The head is the authors': global average pooling, batch normalization,
    `activation`, dense layer. With the ordinary head, `"plain"`, and with
    `"hypersphere"`, the network ends as it was published: batch normalization,
    `activation`, pooling, dense layer. With 10 classes WRN-34-10 has 46.16
    million trainable parameters.

    Args:
        depth: Number of convolutions, with one on a shortcut of each stage:
            10, 16, 22, 28, 34, ...
        width: Factor on the number of filters, at least 1.
        input_shape: `(height, width, channels)`, 8x8 or larger; images are in
            [0, 1].
        num_classes: Number of classes `K`, at least 2.
        head: `"robust"`, `"plain"`, `"hypersphere"`, `"mmc"` or a Keras
            layer, as in `keras_wp.models.small_cnn`.
        activation: Activation of the features that the head classifies: a
            name (`"tanh"`, `"relu"`, `"leaky_relu"`, `"prelu"`, ...), a
            function or a layer. Not used by `"mmc"` and layers.
        s: Length of the class weights, above 0 (`"robust"` only).
        alpha: Weight of the penalty, at least 0 (`"robust"` only).
        mean: Mean to subtract from the images inside the network, a number or
            one for each channel. Defaults to none.
        std: Deviation to divide by, as `mean`.
        name: Name of the model. Defaults to `"wide_resnet_34_10"` and the
            like.
        hidden_activation: Activation of the blocks, as in
            `keras_wp.models.small_cnn`.

    Returns:
        A functional `keras.Model` from `(N, H, W, C)` images to `(N, K)`
        logits. Its last layer is named `"head"`, unless it was given.

    Raises:
        ValueError: if an argument is not as described.

    Source: Zagoruyko and Komodakis, "Wide residual networks" (BMVC 2016); Xu,
    Li and Yang, "Improve Adversarial Robustness via Weight Penalization on
    Classification Layer", section 4.1.

    Example:

    >>> model = keras_wp.models.wide_resnet(depth=16, width=4)
    >>> model.output_shape
    (None, 10)
    """
    shape = heads.check_network_arguments(
        input_shape, num_classes, residual.SMALLEST_IMAGE
    )
    heads.check_hidden(hidden_activation)
    if not isinstance(depth, int) or depth < 10 or depth % 6 != 4:
        raise ValueError(
            "Invalid value for argument `depth`. Expected 4 more than a "
            f"multiple of 6, at least 10. Received: depth={depth}"
        )
    if not isinstance(width, int) or width < 1:
        raise ValueError(
            "Invalid value for argument `width`. Expected an integer of at "
            f"least 1. Received: width={width}"
        )
    images = keras.Input(shape, name="images")
    x = heads.normalize(images, mean, std)
    x = residual.conv3x3(x, STEM)
    blocks = (depth - 4) // 6
    stages = [filters * width for filters in STAGES]
    x = residual.preactivated(x, stages, blocks, hidden_activation)
    logits = residual.classify_preactivated(
        x, num_classes, head, activation=activation, s=s, alpha=alpha
    )
    name = name or f"wide_resnet_{depth}_{width}"
    return keras.Model(images, logits, name=name)
