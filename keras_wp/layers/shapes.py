"""What heads must know of their inputs."""


def known_features(layer, input_shape):
    """The last axis of the input shape, if it is known."""
    features = input_shape[-1]
    if features is None:
        raise ValueError(
            f"`{type(layer).__name__}` must know the number of features, the "
            "last axis of its input. Received: "
            f"input_shape={tuple(input_shape)}"
        )
    return features
