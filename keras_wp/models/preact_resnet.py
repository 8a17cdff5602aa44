"""The pre-activation residual network that robust training is measured on."""

import keras

from keras_wp.models import heads, residual

STAGES, BLOCKS = (64, 128, 256, 512), 2


def preact_resnet18(
    input_shape=(32, 32, 3),
    num_classes=10,
    head="robust",
    activation="tanh",
    s=0.1,
    alpha=100.0,
    mean=None,
    std=None,
    name="preact_resnet18",
    hidden_activation="relu",
):
    """PreAct-ResNet-18, in its form for CIFAR.

    A 3x3 convolution with 64 filters, four stages of two blocks with 64, 128,
    256 and 512 filters, of which all but the first halve the image, and the
    head. A block is `x + conv(act(bn(conv(act(bn(x))))))`, with the
    `hidden_activation`; a 1x1 convolution of `act(bn(x))` takes the place of
    `x` where the shape changes.

    The network of the literature has `head="plain"` and the same `activation`
    as `hidden_activation`: batch normalization, activation, global average
    pooling, dense layer. For 10 classes of color images it then has 11,172,170
    trainable parameters, those of Rice et al.; an older form without the last
    batch normalization has 11,171,146. `"hypersphere"` takes the place of the
    dense layer; other heads follow a pooling and a batch normalization, as in
    `keras_wp.models.wide_resnet`.

    Args:
        input_shape: `(height, width, channels)`, 8x8 or larger; images are in
            [0, 1].
        num_classes: Number of classes `K`, at least 2.
        head: `"robust"`, `"plain"`, `"hypersphere"`, `"mmc"` or a Keras
            layer, as in `keras_wp.models.small_cnn`.
        activation: Activation of the features that the head classifies: a
            name (`"tanh"`, `"relu"`, `"silu"`, `"prelu"`, ...), a function or
            a layer. Not used by `"mmc"` and layers.
        s: Length of the class weights, above 0 (`"robust"` only).
        alpha: Weight of the penalty, at least 0 (`"robust"` only).
        mean: Mean to subtract from the images inside the network, a number or
            one for each channel. Defaults to none.
        std: Deviation to divide by, as `mean`.
        name: Name of the model.
        hidden_activation: Activation of the blocks, as in
            `keras_wp.models.small_cnn`.

    Returns:
        A functional `keras.Model` from `(N, H, W, C)` images to `(N, K)`
        logits. Its last layer is named `"head"`, unless it was given.

    Raises:
        ValueError: if an argument is not as described.

    Source: He et al., "Identity mappings in deep residual networks" (ECCV
    2016); Rice, Wong and Kolter, "Overfitting in adversarially robust deep
    learning" (ICML 2020), for its size and its use.

    Example:

    >>> model = keras_wp.models.preact_resnet18(
    ...     head="plain", activation="silu", hidden_activation="silu"
    ... )
    >>> model.output_shape
    (None, 10)
    """
    shape = heads.check_network_arguments(
        input_shape, num_classes, residual.SMALLEST_IMAGE
    )
    heads.check_hidden(hidden_activation)
    images = keras.Input(shape, name="images")
    x = heads.normalize(images, mean, std)
    x = residual.conv3x3(x, STAGES[0])
    x = residual.preactivated(x, STAGES, BLOCKS, hidden_activation)
    logits = residual.classify_preactivated(
        x, num_classes, head, activation=activation, s=s, alpha=alpha
    )
    return keras.Model(images, logits, name=name)
