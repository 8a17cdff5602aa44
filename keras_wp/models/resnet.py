"""The residual network of 32 layers, on which the paper cites MMC."""

import keras

from keras_wp.models import heads, residual

STAGES, BLOCKS = (16, 32, 64), 5


def resnet32(
    input_shape=(32, 32, 3),
    num_classes=10,
    head="robust",
    activation="tanh",
    s=0.1,
    alpha=100.0,
    mean=None,
    std=None,
    name="resnet32",
    hidden_activation="relu",
):
    """The residual network of He et al. for CIFAR, with 32 layers.

    A 3x3 convolution with 16 filters, three stages of five blocks with 16, 32
    and 64 filters, the second and the third of which halve the image, and the
    head. A block is `relu(x + bn(conv(relu(bn(conv(x))))))`; a 1x1
    convolution with batch normalization takes the place of the shortcut `x`
    where the shape changes.

    The head follows a global average pooling and a batch normalization. The
    ReLU of the last block is left out: the head starts with `activation`,
    and that of MMC needs linear features.

    Args:
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
        name: Name of the model.
        hidden_activation: Activation of the blocks, as in
            `keras_wp.models.small_cnn`.

    Returns:
        A functional `keras.Model` from `(N, H, W, C)` images to `(N, K)`
        logits. Its last layer is named `"head"`, unless it was given.

    Raises:
        ValueError: if an argument is not as described.

    Source: He et al., "Deep residual learning for image recognition" (CVPR
    2016), section 4.2, with the shortcuts of its option B; Pang et al.,
    "Rethinking softmax cross-entropy loss for adversarial robustness" (ICLR
    2020), section 4.

    Example:

    >>> model = keras_wp.models.resnet32(head="mmc")
    >>> model.output_shape
    (None, 10)
    """
    shape = heads.check_network_arguments(
        input_shape, num_classes, residual.SMALLEST_IMAGE
    )
    heads.check_hidden(hidden_activation)
    images = keras.Input(shape, name="images")
    x = heads.normalize(images, mean, std)
    x = heads.batch_norm()(residual.conv3x3(x, STAGES[0]))
    for filters, stride in residual.plan(STAGES, BLOCKS):
        x = _block(x, filters, stride, hidden_activation)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = heads.batch_norm()(x)
    logits = heads.classify(
        x, num_classes, head, activation=activation, s=s, alpha=alpha
    )
    return keras.Model(images, logits, name=name)


def _block(x, filters, stride, hidden):
    """A block that begins with the activation that closes the one before."""
    x = shortcut = heads.hidden(hidden)(x)
    if x.shape[-1] != filters or stride != 1:
        shortcut = heads.batch_norm()(residual.conv1x1(x, filters, stride))
    y = heads.batch_norm()(residual.conv3x3(x, filters, stride))
    y = residual.conv3x3(heads.hidden(hidden)(y), filters)
    return keras.layers.Add()([shortcut, heads.batch_norm()(y)])
