"""Certified accuracy of heads and encoders, by one recipe, with seeds.

    python -m benchmarks.certified --dataset=mnist --seeds=0,1,2 \
        --output=results/certified/mnist-cpu

trains each network with `losses.CertifiedMargin` and certifies it on all test
images. Trained networks are kept, so that more seeds or kinds can follow;
the record is written after each. On one core, an epoch of the default recipe
takes about 9 seconds. For CIFAR-10, on a GPU:

    python -m benchmarks.certified --dataset=cifar10 --kinds=conv --augment \
        --conv_widths=128,512,1024 --depth=4 --widths=1024,1024,512 \
        --epochs=400 --train_eps=1 --temperature=0.2 --eps=0.1412,0.2824 \
        --train_images=50000 --output=results/certified/cifar10-gpu

The run on two cores, of a smaller network, is told of in docs/certificates.md.
"""

import pathlib
import time

import keras
import numpy as np
from absl import app, flags
from keras import ops

import keras_wp as kwp
from benchmarks import common
from keras_wp import lipschitz, simplex
from keras_wp.engine import predict
from keras_wp.inspection import classifier

FLAGS = flags.FLAGS
flags.DEFINE_list("kinds", ["simplex"], "Of KINDS.")
flags.DEFINE_list("seeds", ["0"], "Seeds of the trainings.")
flags.DEFINE_list("widths", ["256"] * 6, "Units of the layers.")
flags.DEFINE_list("conv_widths", ["32", "128", "256"], "Filters of `conv`.")
flags.DEFINE_integer("depth", 1, "Convolutions of each stage of `conv`.")
flags.DEFINE_integer("kernel_size", 1, "Of the convolutions of `conv`.")
flags.DEFINE_bool("augment", False, "Crop and flip training images.")
flags.DEFINE_list("eps", ["0.5", "1.58"], "Radii to tell of.")
flags.DEFINE_float("train_eps", 1.58, "The radius of the loss.")
flags.DEFINE_float("temperature", 0.3, "The temperature of the loss.")
flags.DEFINE_float("learning_rate", 0.01, "Of Adam, to 0 by a cosine.")
flags.DEFINE_integer("batch", 256, "Images of a batch.")
flags.DEFINE_integer(
    "attack_steps", 0, "Attack each image so often, just below its radius."
)
flags.DEFINE_integer(
    "bracket_images", 0, "Attack so many, with the certificate and without."
)
FLAGS.set_default("epochs", 30)
FLAGS.set_default("train_images", 60_000)

# The length of class weights at a distance of 1.
_S = 0.5 * np.sqrt(1.8)


class Normalized(keras.layers.Layer):
    """Class weights divided by their lengths: last-layer normalization."""

    def build(self, input_shape):
        self.free = self.add_weight(
            shape=(input_shape[-1], 10), initializer="orthogonal"
        )

    def call(self, inputs):
        lengths = ops.sqrt(ops.sum(ops.square(self.free), 0))
        return ops.matmul(inputs, self.free / lengths) * float(np.sqrt(0.5))


class Orthonormal(lipschitz.OrthogonalDense):
    """Orthonormal class weights at a distance of 1 from each other."""

    def constrained(self, free):
        return super().constrained(free) * float(np.sqrt(0.5))


def robust(activation, alpha):
    return lambda: kwp.RobustHead(10, s=_S, alpha=alpha, activation=activation)


HEADS = {
    "simplex": lambda: lipschitz.LipschitzHead(10),
    "orthonormal": lambda: Orthonormal(10, use_bias=False),
    "penalty": robust(None, 1.0),
    "penalty-tanh": robust("tanh", 1.0),
    "penalty-tanh-100": robust("tanh", 100.0),
    "normalized": lambda: Normalized(),
    "free": lambda: keras.layers.Dense(10),
}
ENCODERS = {"orthogonal": lipschitz.OrthogonalDense, "aol": lipschitz.AOLDense}
# A head behind orthogonal layers, or the simplex behind others.
KINDS = (*HEADS, "aol", "conv")


def network(kind, shape):
    widths = tuple(map(int, FLAGS.widths))
    if kind == "conv":
        return kwp.models.lipschitz_cnn(
            shape,
            10,
            widths=tuple(map(int, FLAGS.conv_widths)),
            depth=FLAGS.depth,
            dense=widths,
            kernel_size=FLAGS.kernel_size,
        )
    encoder = ENCODERS.get(kind, lipschitz.OrthogonalDense)
    x = images = keras.Input(shape)
    x = keras.layers.Flatten()(x)
    for units in widths:
        x = lipschitz.MaxMin()(encoder(units)(x))
    return keras.Model(images, HEADS.get(kind, HEADS["simplex"])()(x))


def trained(kind, seed, data):
    """The trained network, and the seconds that it took."""
    (x, y), _ = data
    count = min(FLAGS.train_images, len(x))
    x, y = x[:count], y[:count]
    keras.utils.set_random_seed(seed)
    model = network(kind, x.shape[1:])
    settings = [FLAGS.epochs, FLAGS.batch, *FLAGS.widths, FLAGS.train_eps]
    settings += [FLAGS.temperature, FLAGS.learning_rate]
    if kind == "conv":
        settings += [*FLAGS.conv_widths, FLAGS.depth, FLAGS.kernel_size]
    if FLAGS.augment:
        settings += ["augment"]
    name = "-".join(map(str, [FLAGS.dataset, count, kind, seed, *settings]))
    path = pathlib.Path(FLAGS.cache) / f"certified-{name}.weights.h5"
    if path.exists():
        model.load_weights(path)
        return model, float(path.with_suffix(".seconds").read_text())
    steps = FLAGS.epochs * -(-count // FLAGS.batch)
    decay = keras.optimizers.schedules.CosineDecay(FLAGS.learning_rate, steps)
    loss = kwp.losses.CertifiedMargin(FLAGS.train_eps, FLAGS.temperature)
    metric = kwp.metrics.CertifiedAccuracy(FLAGS.train_eps)
    model.compile(
        keras.optimizers.Adam(decay),
        loss,
        metrics=["accuracy", metric],
        jit_compile=False,
    )
    begun = time.perf_counter()
    data = {"x": x, "y": y, "batch_size": FLAGS.batch}
    if FLAGS.augment:
        batches = kwp.datasets.batches(
            x, y, FLAGS.batch, seed=seed, augment=True
        )
        data = {
            "x": batches,
            "steps_per_epoch": count // FLAGS.batch,
            "shuffle": False,
        }
    model.fit(**data, epochs=FLAGS.epochs, verbose=2)
    seconds = time.perf_counter() - begun
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save_weights(path)
    path.with_suffix(".seconds").write_text(str(seconds))
    return model, seconds


def certifiable(model, kind):
    """The network with a head that certificates know."""
    head = model.layers[-1]
    if kind not in ("orthonormal", "normalized"):
        return model
    kernel = getattr(head, "kernel", None)
    if kernel is None:
        free = ops.convert_to_numpy(head.free).astype(float)
        kernel = free / np.linalg.norm(free, axis=0) * np.sqrt(0.5)
    dense = keras.layers.Dense(10, use_bias=False)
    twin = keras.Model(model.inputs, dense(head.input))
    dense.set_weights([ops.convert_to_numpy(kernel)])
    return twin


def broken_below_radius(model, data, found):
    """How many predictions change at 0.999999 of their radius, of how many.

    By normalized gradients of the margin, from the image; every point on the
    way counts.
    """
    (x, _), sure = data[1], found.radius > 0
    x, y, limit = x[sure], found.prediction[sure], found.radius[sure]
    view, broken, x_adv = classifier.Classifier(model), np.zeros(len(x)), x
    sides = (-1, *[1] * (x.ndim - 1))
    for _ in range(FLAGS.attack_steps):
        way = predict.margin_gradients(view, x_adv, y, 128).astype(float)
        way *= (4 * limit / FLAGS.attack_steps / _length(way)).reshape(sides)
        delta = x_adv - x.astype(float) + way
        scale = 0.999999 * limit / np.maximum(_length(delta), limit)
        x_adv = (x + delta * scale.reshape(sides)).astype(np.float32)
        # A float32 image may lie beyond, by its own rounding.
        inside = _length(x_adv - x.astype(float)) < limit
        wrong = predict.logits(view, x_adv, 128).argmax(-1) != y
        broken = np.maximum(broken, wrong & inside)
    return {"images": len(x), "broken": int(broken.sum())}


def bracket(model, data):
    """What attacks find, and how long they take, with what is proved or not."""
    x, y = (part[: FLAGS.bracket_images] for part in data[1])
    largest = max(map(float, FLAGS.eps))
    attack = kwp.attacks.PGD(eps=largest, norm="l2", steps=100, loss="margin")
    options = {"eps": [float(eps) for eps in FLAGS.eps], "progress": False}
    options |= {"adaptive": False, "audit": False}
    kwp.evaluate(model, (x[:64], y[:64]), [attack], **options)
    found = {}
    for name, certify in (("alone", False), ("certified", True)):
        begun = common.now()
        report = kwp.evaluate(
            model, (x, y), [attack], certify=certify, **options
        )
        seconds = [round(t, 2) for t in common.now() - begun]
        found[name] = {
            "seconds": dict(zip(("clock", "processor"), seconds, strict=True)),
            "unbroken": report.curve("l2"),
        }
    found["between"] = {e: report.bracket("l2", float(e)) for e in FLAGS.eps}
    return found


def clocks(model, data):
    """Seconds of a processor: a forward pass, and a certificate; the least."""
    x, _ = data[1]
    view = classifier.Classifier(model)
    calls = {
        "forward": lambda: predict.logits(view, x, 128),
        "predict": lambda: model.predict(x, batch_size=128, verbose=0),
        "certify": lambda: kwp.certify(model, data[1]),
    }
    found = {}
    for name, call in calls.items():
        call()
        times = []
        for _ in range(5):
            begun = common.now()
            call()
            times.append(common.now() - begun)
        found[name] = round(float(np.min(times, axis=0)[1]), 3)
    return found


def _length(x):
    lengths = np.linalg.norm(x.reshape(len(x), -1).astype(float), axis=1)
    return np.maximum(lengths, 1e-30)


def row(kind, seed, data):
    model, seconds = trained(kind, seed, data)
    model = certifiable(model, kind)
    found = kwp.certify(model, data[1])
    shares = {eps: found.accuracy(float(eps)) for eps in FLAGS.eps}
    print(f"{kind}, seed {seed}: {found} {shares}", flush=True)
    attacked = None
    if FLAGS.attack_steps:
        attacked = broken_below_radius(model, data, found)
    both = times = None
    if FLAGS.bracket_images:
        both, times = bracket(model, data), clocks(model, data)
    return {
        "kind": kind,
        "seed": seed,
        "weights": sum(
            int(np.prod(w.shape)) for w in model.trainable_variables
        ),
        "train_images": min(FLAGS.train_images, len(data[0][0])),
        "train_seconds": round(seconds, 1),
        "processor_seconds": times,
        "clean": found.clean_accuracy,
        "certified": shares,
        "attacked_below_radius": attacked,
        "bracket": both,
        "constant": found.constant,
        "rounding": float(found.rounding.mean()),
        "min_angle": float(np.degrees(_min_angle(model))),
    }


def _min_angle(model):
    head = model.layers[-1]
    kernel = getattr(head, "kernel", getattr(head, "free", None))
    return simplex.min_angle(kernel)


def main(_):
    data, rows = common.load(), []
    for seed in map(int, FLAGS.seeds):
        for kind in FLAGS.kinds:
            rows.append(row(kind, seed, data))
            common.record({"figures": rows, "recipe": recipe()}, show=False)


def recipe():
    names = ("epochs", "batch", "widths", "train_eps", "temperature")
    found = {name: getattr(FLAGS, name) for name in names}
    return {**found, "learning_rate": FLAGS.learning_rate}


if __name__ == "__main__":
    app.run(main)
