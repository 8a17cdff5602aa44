"""What every network shares: fixed normalization, and a choice of head."""

import keras

from keras_wp import layers

# Ten steps are enough for the statistics to follow; with Keras's own 0.99 a
# network trained for few steps is evaluated with the initial ones.
BATCH_NORM_MOMENTUM = 0.9
# Heads that were published behind the activation of a convolution, and its
# pooling.
POOLED_ACTIVE = ("plain", "hypersphere")


def batch_norm(name=None):
    """A `BatchNormalization` layer with the authors' momentum, 0.9."""
    return keras.layers.BatchNormalization(
        momentum=BATCH_NORM_MOMENTUM, name=name
    )


def normalize(images, mean, std):
    """Shift and scale images in [0, 1] by a fixed mean and deviation.

    Computes `(images - mean) / std` inside the network, so that attacks act
    on the images themselves.

    Args:
        images: symbolic `(N, H, W, C)` images in [0, 1].
        mean: A number, one number for each channel, or `None` for 0.
        std: A number above 0, one for each channel, or `None` for 1.

    Returns:
        The normalized images; `images` itself when both are `None`.

    Raises:
        ValueError: for a wrong count of numbers, or a `std` that is not
            above 0.
    """
    if mean is None and std is None:
        return images
    channels = images.shape[-1]
    mean = _per_channel("mean", 0.0 if mean is None else mean, channels)
    std = _per_channel("std", 1.0 if std is None else std, channels)
    if min(std) <= 0:
        raise ValueError(
            "Invalid value for argument `std`. Expected numbers above 0. "
            f"Received: std={std}"
        )
    return keras.layers.Rescaling(
        scale=[1.0 / s for s in std],
        offset=[-m / s for m, s in zip(mean, std, strict=True)],
        name="normalization",
    )(images)


def _per_channel(name, value, channels):
    try:
        numbers = [float(number) for number in value]
    except TypeError:
        numbers = [float(value)] * channels
    if len(numbers) != channels:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected one number, or "
            f"one for each of the {channels} channels. "
            f"Received: {name}={numbers}"
        )
    return numbers


def classify(features, num_classes, head, *, activation, s, alpha):
    """Put a classification head on features that end in batch normalization.

    Args:
        features: symbolic `(N, P)` features, before the last activation.
        num_classes: Number of classes `K`.
        head: `"robust"` (activation, then a dense layer without bias under
            the simplex penalty: `keras_wp.RobustHead`), `"plain"` (the same
            activation, then an ordinary dense layer), `"hypersphere"` (the
            same activation, then `keras_wp.layers.HypersphereHead`), `"mmc"`
            (distances of the linear features from fixed centers:
            `keras_wp.layers.MaxMahalanobisHead`), or a Keras layer that
            maps `(N, P)` to `(N, K)` and applies an activation of its own
            if it wants one.
        activation: The last activation: a name that `keras.activations` has,
            `"prelu"` (of one slope), a function or a layer. Not used by
            `"mmc"`, whose features are linear, nor when `head` is a layer.
            With `"plain"` and `"hypersphere"`, `None` if it has been applied.
        s: Length of the class weights (`"robust"` only).
        alpha: Weight of the penalty (`"robust"` only).

    Returns:
        Symbolic `(N, K)` logits.

    Raises:
        ValueError: if `head` is none of these.
    """
    if isinstance(head, keras.layers.Layer):
        return head(features)
    if head not in ("robust", "plain", "hypersphere", "mmc"):
        raise ValueError(
            "Invalid value for argument `head`. Expected 'robust', 'plain', "
            f"'hypersphere', 'mmc' or a Keras layer. Received: head={head!r}"
        )
    # Under a mixed policy tanh and the logits stay in full precision: in half
    # precision units saturate early, and margins drown in rounding.
    options = {
        "dtype": keras.config.dtype_policy().variable_dtype,
        "name": "head",
    }
    if head == "mmc":
        return layers.MaxMahalanobisHead(num_classes, **options)(features)
    if head in POOLED_ACTIVE:
        if activation is not None:
            features = activate(features, activation)
        kind = keras.layers.Dense
        if head == "hypersphere":
            kind = layers.HypersphereHead
        return kind(num_classes, **options)(features)
    activation = _activation(activation, features.shape, options["dtype"])
    return layers.RobustHead(
        num_classes, s=s, alpha=alpha, activation=activation, **options
    )(features)


def activate(features, activation):
    """The last activation of a network, in full precision."""
    dtype = keras.config.dtype_policy().variable_dtype
    activation = _activation(activation, features.shape, dtype)
    if not isinstance(activation, keras.layers.Layer):
        activation = keras.layers.Activation(activation, dtype=dtype)
    return activation(features)


def hidden(activation):
    """A layer with the activation of hidden layers."""
    if activation == "relu":
        return keras.layers.ReLU()
    return keras.layers.Activation(activation)


def check_hidden(activation):
    """Check the argument `hidden_activation` of a network.

    Raises:
        ValueError: If it is neither a name of Keras's nor a function.
    """
    known = callable(activation) and not isinstance(
        activation, keras.layers.Layer
    )
    if isinstance(activation, str):
        try:
            known = callable(keras.activations.get(activation))
        except ValueError:
            known = False
    if not known:
        raise ValueError(
            "Invalid value for argument `hidden_activation`. Expected a name "
            "of keras.activations, such as 'relu' or 'silu', or a function. "
            f"Received: hidden_activation={activation!r}"
        )


def _activation(activation, shape, dtype):
    if activation == "prelu":
        # Keras has it as a layer only, which starts as a ReLU with a slope for
        # each feature. As the authors have it, there is one, from 0.25 on (He
        # et al., ICCV 2015).
        return keras.layers.PReLU(
            alpha_initializer=keras.initializers.Constant(0.25),
            shared_axes=list(range(1, len(shape))),
            dtype=dtype,
        )
    return activation


def check_network_arguments(input_shape, num_classes, smallest):
    """Check the arguments that every network takes.

    Args:
        input_shape: `(H, W, C)`, without the batch.
        num_classes: At least 2.
        smallest: Smallest height and width that the network can take.

    Returns:
        `input_shape` as a tuple of integers.

    Raises:
        ValueError: if one of them is not as described.
    """
    try:
        height, width, channels = shape = tuple(int(n) for n in input_shape)
    except (TypeError, ValueError):
        height, width, channels, shape = 0, 0, 0, input_shape
    if min(height, width) < smallest or channels < 1:
        raise ValueError(
            "Invalid value for argument `input_shape`. Expected (height, "
            f"width, channels) with height and width of at least {smallest}. "
            f"Received: input_shape={input_shape}"
        )
    if not isinstance(num_classes, int) or num_classes < 2:
        raise ValueError(
            "Invalid value for argument `num_classes`. Expected an integer "
            f"of at least 2. Received: num_classes={num_classes}"
        )
    return shape
