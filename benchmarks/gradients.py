"""What a gradient costs, by batch, compiler and precision.

The gradients, in the images, of the cross-entropy: what every attack's steps
are made of. The network is the small CNN, not trained: time does not depend on
what it has learned. Each program is compiled and timed, all of them in turns,
`--rounds` times; milliseconds an image are the medians of the turns.

- `graph` is a TensorFlow graph of the whole batch; `divided` one whose parts
  run side by side on the cores, as the engine has it. Both on TensorFlow only.
- `xla` is TensorFlow's `jit_compile`, or `jax.jit`.

    python -m benchmarks.gradients --batches=8,32,128
    KERAS_BACKEND=jax python -m benchmarks.gradients --precisions=float32
"""

import itertools

import keras
import numpy as np
from absl import app, flags
from keras import ops

import keras_wp as kwp
from benchmarks.common import (
    FLAGS,
    bare_gradient,
    called,
    gradients_of,
    now,
    record,
)

flags.DEFINE_list("batches", ["1", "8", "32", "128"], "Images at a time.")
flags.DEFINE_list(
    "precisions", ["float32", "mixed_bfloat16"], "Policies of Keras."
)
flags.DEFINE_integer("rounds", 9, "Turns of each program.")

SHORTEST = 0.1  # seconds of a turn
SHAPES = {"cifar10": (32, 32, 3), "mnist": (28, 28, 1), "mnist5k": (28, 28, 1)}
NUM_CLASSES = 10


def xla_gradient(model, x, y):
    """The gradients as XLA compiles them; a function of no arguments."""
    if keras.backend.backend() == "jax":
        return bare_gradient(model, x, y)
    import tensorflow as tf

    _, call = called(model)
    compiled = tf.function(
        gradients_of(call), jit_compile=True, autograph=False
    )
    x, y = ops.convert_to_tensor(x), ops.convert_to_tensor(y)
    return lambda: ops.convert_to_numpy(compiled(x, y))


COMPILERS = {"xla": xla_gradient}
if keras.backend.backend() == "tensorflow":
    COMPILERS = {
        "graph": bare_gradient,
        "divided": lambda *args: bare_gradient(*args, divided=True),
        **COMPILERS,
    }


def build(precision):
    """The network, and data of its shape, in a policy of Keras."""
    keras.config.set_dtype_policy(precision)
    keras.utils.set_random_seed(FLAGS.seed)
    try:
        return kwp.models.small_cnn(SHAPES[FLAGS.dataset], NUM_CLASSES)
    finally:
        keras.config.set_dtype_policy("float32")


def turn(run):
    """Seconds of a call, in a turn of some."""
    begun, count = now(), 0
    while now()[0] - begun[0] < SHORTEST:
        run()
        count += 1
    return (now() - begun) / count


def main(_):
    rng = np.random.default_rng(FLAGS.seed)
    batches = [int(batch) for batch in FLAGS.batches]
    shape = (max(batches), *SHAPES[FLAGS.dataset])
    x = rng.random(shape, dtype=np.float32)
    y = rng.integers(0, NUM_CLASSES, len(x))
    models = {precision: build(precision) for precision in FLAGS.precisions}
    programs = {
        (precision, name, batch): COMPILERS[name](
            models[precision], x[:batch], y[:batch]
        )
        for precision, name, batch in itertools.product(
            models, COMPILERS, batches
        )
    }
    for run in programs.values():
        run()  # Compiles.
    turns = {key: [] for key in programs}
    for _ in range(FLAGS.rounds):
        for key, run in programs.items():
            turns[key].append(turn(run))
    figures = []
    for (precision, compiler, batch), seconds in turns.items():
        wall, processor = 1000 * np.median(seconds, axis=0) / batch
        figures.append(
            {
                "precision": precision,
                "compiler": compiler,
                "batch": batch,
                "milliseconds": round(wall, 3),
                "processor_milliseconds": round(processor, 3),
                "lowest": round(1000 * np.min(seconds, axis=0)[0] / batch, 3),
            }
        )
    record(
        {
            "data": f"random images of the shape {list(shape[1:])}",
            "backend": keras.backend.backend(),
            "rounds": FLAGS.rounds,
            "figures": figures,
        }
    )


if __name__ == "__main__":
    app.run(main)
