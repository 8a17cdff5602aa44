"""A saturated Tanh head: what PGD leaves, and what adapted attacks leave.

    python -m benchmarks.saturated_head --dataset=mnist

trains the paper's MNIST network by the paper's recipe, for 6 epochs only,
multiplies the pre-activations of its last Tanh by 1, 3 and 30, which hardly
changes what it computes, and evaluates each network by PGD-40 and adaptively
on 300 test images. Half an hour on one core.
"""

import pathlib

import keras
from absl import app, flags

import keras_wp as kwp
from benchmarks import common

FLAGS = flags.FLAGS
flags.DEFINE_integer("images", 300, "Test images.")
flags.DEFINE_multi_float("factor", [1.0, 3.0, 30.0], "Multipliers.")


def network(data):
    """The trained network; kept for next time."""
    (x, y), _ = data
    name = f"{FLAGS.dataset}-recipe-{FLAGS.epochs}-{FLAGS.seed}.keras"
    path = pathlib.Path(FLAGS.cache) / name
    if path.exists():
        return keras.saving.load_model(path)
    keras.utils.set_random_seed(FLAGS.seed)
    model = kwp.models.small_cnn(x.shape[1:], 10)
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(x, y, batch_size=128, epochs=FLAGS.epochs, verbose=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)
    return model


def scaled(model, factor):
    """The model, with the pre-activations of its head multiplied."""
    head = model.layers[-1]
    return keras.Sequential(
        [
            keras.Input(model.input_shape[1:]),
            keras.Model(model.inputs, head.input),
            keras.layers.Rescaling(factor),
            head,
        ]
    )


def row(model, data, factor):
    attack = kwp.attacks.PGD(eps=0.3, steps=40, step_size=0.01)
    report = kwp.evaluate(
        scaled(model, factor),
        data,
        [attack],
        eps=[0.1, 0.3],
        adaptive=True,
        audit=True,
    )
    print(f"x{factor:g}\n{report}\n", flush=True)
    return {
        "factor": factor,
        "clean": report.clean_accuracy,
        "pgd40": {r.eps: r.robust_accuracy for r in report.results[:2]},
        "zero_gradients": {
            r.eps: r.vanished_gradients for r in report.results[:2]
        },
        "worst_case": report.curve(),
        "findings": [
            {"severity": f.severity, "check": f.check, "message": f.message}
            for f in report.findings
        ],
    }


def main(_):
    data = common.load()
    model = network(data)
    _, (x, y) = data
    data = x[: FLAGS.images], y[: FLAGS.images]
    rows = [row(model, data, factor) for factor in FLAGS.factor]
    common.record({"images": FLAGS.images, "rows": rows})


if __name__ == "__main__":
    app.run(main)
