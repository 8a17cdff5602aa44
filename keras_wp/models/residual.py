"""The parts that residual networks are made of."""

import keras

from keras_wp.models import heads

# Two stages halve the image: 2 pixels are left of 8.
SMALLEST_IMAGE = 8


def plan(stages, blocks):
    """`(filters, stride)` of each block; all stages but the first halve."""
    for stage, filters in enumerate(stages):
        for block in range(blocks):
            yield filters, 2 if stage and not block else 1


def preactivated(x, stages, blocks, hidden):
    """Blocks whose activations come before their convolutions.

    A block is `x + conv(act(bn(conv(act(bn(x))))))`; a 1x1 convolution of
    `act(bn(x))` takes the place of `x` where the shape changes.

    Args:
        x: Symbolic `(N, H, W, C)`.
        stages: The filters of each stage; all but the first halve the image.
        blocks: Blocks of a stage.
        hidden: The activation, a name or a function.
    """
    for filters, stride in plan(stages, blocks):
        active = heads.hidden(hidden)(heads.batch_norm()(x))
        shortcut = x
        if x.shape[-1] != filters or stride != 1:
            shortcut = conv1x1(active, filters, stride)
        y = conv3x3(active, filters, stride)
        y = heads.hidden(hidden)(heads.batch_norm()(y))
        x = keras.layers.Add()([shortcut, conv3x3(y, filters)])
    return x


def classify_preactivated(x, num_classes, head, *, activation, s, alpha):
    """The end of a network of such blocks, as `heads.classify`.

    Pooling, batch normalization and head; or, with a head that was published
    so, batch normalization, `activation`, pooling and head.
    """
    pooling = keras.layers.GlobalAveragePooling2D()
    if head in heads.POOLED_ACTIVE:
        x = pooling(heads.activate(heads.batch_norm()(x), activation))
        activation = None
    else:
        x = heads.batch_norm()(pooling(x))
    return heads.classify(
        x, num_classes, head, activation=activation, s=s, alpha=alpha
    )


def conv3x3(x, filters, stride=1):
    """A 3x3 convolution that sees one pixel around the image, without bias."""
    if stride != 1:
        # "same" would pad on one side only, unlike the authors' framework.
        x = keras.layers.ZeroPadding2D(1)(x)
    return _conv(filters, 3, stride, "same" if stride == 1 else "valid")(x)


def conv1x1(x, filters, stride):
    """The convolution on a shortcut whose shape changes, without bias."""
    return _conv(filters, 1, stride, "valid")(x)


def _conv(filters, size, stride, padding):
    return keras.layers.Conv2D(
        filters,
        size,
        strides=stride,
        padding=padding,
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(
            2.0, mode="fan_out", distribution="untruncated_normal"
        ),
    )
