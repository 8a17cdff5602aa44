"""Check saved adversarial images, without the package that made them.

    report = keras_wp.evaluate(..., save_adversarial="adversarial.npz")
    model.export("saved_model")

    python examples/recheck.py adversarial.npz saved_model

The model is the directory of a SavedModel, or a `.keras` file of Keras's own
layers. For each attack it counts the images that the model still classifies
correctly, and checks that the others lie within eps and within [0, 1]. It ends
with an error if a number is not the one that was saved.
"""

import json
import os
import sys

import numpy as np

BATCH = 256
# What float32 may add to a distance by rounding.
TOLERANCE = 1e-6


def load(path):
    """A function from images to logits."""
    if os.path.isdir(path):
        import tensorflow as tf

        module = tf.saved_model.load(path)
        serve = module.signatures["serving_default"]
        (name,) = serve.structured_input_signature[1]
        (output,) = serve.structured_outputs
        # The function lives only as long as the module does.
        return lambda x, module=module: serve(**{name: tf.constant(x)})[
            output
        ].numpy()
    import keras

    try:
        model = keras.saving.load_model(path, compile=False)
    except (TypeError, ValueError) as error:
        raise SystemExit(
            "The model must be the directory of a SavedModel, which "
            "`model.export` writes, or a .keras file of Keras's own layers. "
            f"Received: {path!r}, which has others"
        ) from error
    return lambda x: model.predict(x, verbose=0)


def main(images_path, model_path):
    logits = load(model_path)
    with np.load(images_path) as data:
        if "attacks" not in data:
            raise SystemExit(
                f"{images_path} must be what `save_adversarial` writes. "
                f"Received: a file of {', '.join(data)}"
            )
        attacks = json.loads(str(data["attacks"]))
        x, y = data["x"], data["y"]

        def right(images):
            parts = [
                logits(images[i : i + BATCH]).argmax(-1)
                for i in range(0, len(images), BATCH)
            ]
            return np.concatenate(parts) == y

        clean = right(x)
        print(f"clean: {clean.mean():.2%} of {len(y)} images")
        different = 0
        for attack in attacks:
            x_adv = data[attack["images"]]
            delta = (x_adv - x).astype(np.float64).reshape(len(x), -1)
            order = {"linf": np.inf, "l2": 2}[attack["norm"]]
            distance = np.linalg.norm(delta, ord=order, axis=1)
            limit = np.inf
            if attack["eps"] is not None:
                limit = attack["eps"] + TOLERANCE * max(1, attack["eps"])
            inside = (x_adv >= 0).all() and (x_adv <= 1).all()
            held = right(x_adv) | (distance > limit)
            robust = clean & data[attack["attacked"]] & held
            same = inside and np.isclose(
                robust.mean(), attack["robust_accuracy"], atol=1e-9
            )
            different += not same
            print(
                f"{attack['name']}, {attack['norm']}, eps {attack['eps']}: "
                f"{robust.mean():.2%} ({'as' if same else 'NOT as'} saved)"
            )
    if different:
        raise SystemExit(f"{different} of {len(attacks)} numbers differ.")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: recheck.py ADVERSARIAL.npz MODEL")
    for path in sys.argv[1:]:
        if not os.path.exists(path):
            raise SystemExit(f"There is no {path}.")
    main(*sys.argv[1:])
