"""What cannot be certified: which operation, and what to use."""


class RefusedError(ValueError):
    """A model that cannot be certified; says which layer, and what to use."""


def refuse(step, advice):
    """Raise the error that names a step and says what to use."""
    kind = type(step.operation).__name__
    name = step.name if kind == "function" else f"{step.name} ({kind})"
    raise RefusedError(
        "A certificate needs a bound for every operation of the model, and "
        f"has none for {name}: {advice}"
    )


OWN = (
    "use a layer of keras_wp.lipschitz, or give it the methods "
    "`lipschitz_constant()` and `rounding_error(size, at_zero)`"
)
ADVICE = {
    "BatchNormalization": "leave it out, as 1-Lipschitz layers keep lengths",
    "LayerNormalization": "leave it out, as 1-Lipschitz layers keep lengths",
    "GroupNormalization": "leave it out, as 1-Lipschitz layers keep lengths",
    "Softmax": "let the model return logits",
    "softmax": "let the model return logits",
    "Pad": "pad by zeros, with `keras.layers.ZeroPadding2D`, or within "
    "AOLConv2D",
    "Cast": "leave all in float32",
    "_Cast": "leave all in float32",
}
