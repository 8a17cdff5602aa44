"""Networks that stretch no distance, for certificates."""

import keras

from keras_wp import lipschitz
from keras_wp._checks import check_at_least
from keras_wp.models import heads


def lipschitz_mlp(
    input_shape,
    num_classes,
    widths=(256,) * 6,
    head=None,
    name="lipschitz_mlp",
):
    """Dense layers of norm 1, for small images such as those of MNIST.

    `OrthogonalDense` and `MaxMin` in turn, then a head. Images are in
    [0, 1], and are not normalized: that would stretch distances.

    Args:
        input_shape: `(height, width, channels)`.
        num_classes: Number of classes `K`, at least 2.
        widths: Even numbers of units. The last is the feature dimension,
            at least `K`.
        head: A Keras layer that maps `(N, P)` features to `(N, K)` logits.
            Defaults to `keras_wp.lipschitz.LipschitzHead`.
        name: Name of the model.

    Returns:
        A functional `keras.Model` from `(N, H, W, C)` images to `(N, K)`
        logits, of a Lipschitz constant of at most 1 up to the features.

    Raises:
        ValueError: if an argument is not as described.

    Reference:
        Anil, Lucas and Grosse, "Sorting out Lipschitz function approximation"
        (ICML 2019).

    Example:

    >>> model = keras_wp.models.lipschitz_mlp((28, 28, 1), num_classes=10)
    >>> model.output_shape
    (None, 10)
    """
    shape = heads.check_network_arguments(input_shape, num_classes, 1)
    _check_widths("widths", widths)
    images = keras.Input(shape, name="images")
    x = keras.layers.Flatten()(images)
    return keras.Model(images, _dense(x, widths, num_classes, head), name=name)


def lipschitz_cnn(
    input_shape,
    num_classes,
    widths=(32, 128, 256),
    depth=1,
    dense=(512, 512, 256),
    kernel_size=1,
    head=None,
    name="lipschitz_cnn",
):
    """Convolutions of norm at most 1, and dense layers of norm 1.

    Each stage halves the image by `SpaceToDepth` and has `depth` times a
    convolution and a `MaxMin`. Dense layers as in `lipschitz_mlp` and a head
    follow.

    Convolutions of 1x1 are `OrthogonalDense`: with the `SpaceToDepth` before
    them they see patches of 2x2 that do not overlap, and shorten no distance
    but by dropping channels. They learn much faster than the larger ones,
    which are `AOLConv2D`, circular as nothing is lost so; see
    docs/certificates.md.

    Args:
        input_shape: `(height, width, channels)`, multiples of two to the
            power of the number of stages.
        num_classes: Number of classes `K`, at least 2.
        widths: Even numbers of filters, one for each stage.
        depth: Convolutions of a stage, at least 1.
        dense: Even numbers of units. The last is the feature dimension.
        kernel_size: Height and width of the convolutions, an odd number.
        head: As in `lipschitz_mlp`.
        name: Name of the model.

    Returns:
        A functional `keras.Model` from `(N, H, W, C)` images to `(N, K)`
        logits, of a Lipschitz constant of at most 1 up to the features.

    Raises:
        ValueError: if an argument is not as described.

    Reference:
        Prach and Lampert, "Almost-orthogonal layers for efficient
        general-purpose Lipschitz networks" (ECCV 2022).
    """
    shape = heads.check_network_arguments(input_shape, num_classes, 2)
    _check_widths("widths", widths)
    _check_widths("dense", dense)
    check_at_least(1, depth=depth, kernel_size=kernel_size)
    step = 2 ** len(widths)
    if shape[0] % step or shape[1] % step:
        raise ValueError(
            "Invalid value for argument `input_shape`. Expected height and "
            f"width that are multiples of {step}, for {len(widths)} stages. "
            f"Received: input_shape={input_shape}"
        )
    images = x = keras.Input(shape, name="images")
    for filters in widths:
        x = lipschitz.SpaceToDepth(2)(x)
        for _ in range(depth):
            x = _convolution(filters, kernel_size)(x)
            x = lipschitz.MaxMin()(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(images, _dense(x, dense, num_classes, head), name=name)


def _convolution(filters, size):
    if size == 1:
        return lipschitz.OrthogonalDense(filters)
    return lipschitz.AOLConv2D(filters, size, padding="circular")


def _dense(x, widths, num_classes, head):
    for units in widths:
        x = lipschitz.OrthogonalDense(units)(x)
        x = lipschitz.MaxMin()(x)
    head = head or lipschitz.LipschitzHead(num_classes, name="head")
    return head(x)


def _check_widths(name, widths):
    if not widths or not all(
        isinstance(n, int) and n > 0 and n % 2 == 0 for n in widths
    ):
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected even integers "
            f"above 0. Received: {name}={widths}"
        )
