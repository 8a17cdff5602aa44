"""The convolutions that residual networks are made of."""

import keras

# Two stages halve the image: 2 pixels are left of 8.
SMALLEST_IMAGE = 8


def plan(stages, blocks):
    """`(filters, stride)` of each block; all stages but the first halve."""
    for stage, filters in enumerate(stages):
        for block in range(blocks):
            yield filters, 2 if stage and not block else 1


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
