"""What the benchmarks share: networks, data, and a record of the run."""

import json
import pathlib
import time

import keras
import numpy as np
from absl import flags
from keras import ops

import keras_wp as kwp
from keras_wp import _backend, objectives
from keras_wp.engine import problem
from keras_wp.experiments.publish import record as recorded
from keras_wp.experiments.publish import results
from keras_wp.inspection import classifier
from keras_wp.models.small_cnn import sizes

_BEGUN = time.perf_counter()

flags.DEFINE_string("data_dir", None, "TensorFlow Datasets directory.")
flags.DEFINE_string("dataset", "cifar10", "cifar10, mnist or mnist5k.")
flags.DEFINE_string(
    "cache", "benchmarks/.cache", "Where trained networks are kept."
)
flags.DEFINE_string("model", None, "A .keras file to use instead.")
flags.DEFINE_enum(
    "training", "plain", ["plain", "adversarial"], "How it was trained."
)
flags.DEFINE_integer("train_images", 10_000, "Training images.")
flags.DEFINE_integer("narrow", 1, "Divide the network's widths by this.")
flags.DEFINE_integer("epochs", 6, "Training epochs.")
flags.DEFINE_integer("seed", 0, "Seed of training and attacks.")
flags.DEFINE_string("output", None, "Write the figures to this folder.")
flags.DEFINE_list("earlier", [], "Folders with records of the same.")

FLAGS = flags.FLAGS


def load():
    """`(x_train, y_train), (x_test, y_test)`."""
    return kwp.datasets.load(FLAGS.dataset, FLAGS.data_dir)


def network(data):
    """The small CNN with a Tanh head; kept for next time."""
    if FLAGS.model:
        return keras.saving.load_model(FLAGS.model)
    (x, y), _ = data
    x, y = x[: FLAGS.train_images], y[: FLAGS.train_images]
    name = f"{FLAGS.dataset}-{FLAGS.training}-{len(x)}"
    name = f"{name}-{FLAGS.epochs}-{FLAGS.narrow}-{FLAGS.seed}.keras"
    path = pathlib.Path(FLAGS.cache) / name
    if path.exists():
        return keras.saving.load_model(path)
    keras.utils.set_random_seed(FLAGS.seed)
    model = kwp.models.small_cnn(
        x.shape[1:],
        int(y.max()) + 1,
        **sizes(x.shape[-1], FLAGS.narrow),
    )
    model.compile(
        keras.optimizers.Adam(0.001),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    if FLAGS.training == "plain":
        model.fit(x, y, batch_size=128, epochs=FLAGS.epochs, verbose=2)
    else:
        _fit_adversarially(model, x, y)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)
    return model


def _fit_adversarially(model, x, y, batch_size=128):
    """FGSM from a random start, with a step of 1.25 eps.

    Source: Wong, Rice and Kolter, "Fast is better than free: revisiting
    adversarial training" (ICLR 2020).
    """
    eps = 0.3 if FLAGS.dataset.startswith("mnist") else 8 / 255
    attack = kwp.attacks.PGD(eps=eps, steps=1, step_size=1.25 * eps)
    view = classifier.Classifier(model)

    def perturb(x, y, keys):
        return attack.perturb(
            problem.Problem(view, x, y, y, keys, ops.one_hot(y, 10))
        )

    compiled = _backend.compile(perturb, view.variables)
    rng = np.random.default_rng(FLAGS.seed)
    for epoch in range(FLAGS.epochs):
        order = rng.permutation(len(x))
        for begin in range(0, len(x) - batch_size + 1, batch_size):
            some = order[begin : begin + batch_size]
            keys = rng.integers(0, 2**32, (batch_size, 2), np.uint32)
            x_adv = compiled(x[some], y[some], keys)
            logs = model.train_on_batch(x_adv, y[some], return_dict=True)
        print(f"epoch {epoch + 1}: {logs}", flush=True)


def correct_images(model, data, count):
    """The first `count` test images that the model classifies correctly."""
    _, (x, y) = data
    x, y = x[: 4 * count], y[: 4 * count]
    right = model.predict(x, verbose=0).argmax(-1) == y
    return x[right][:count], y[right][:count]


def bare_forward(model, x, divided=False):
    """A function of no arguments: the logits of these images, on the host.

    It is compiled, and passes all images at once, as the backend would by
    itself; `divided`, in parts side by side, as the engine has it.
    """
    view, call = called(model, divided)
    compiled = _backend.compile(call, view.variables)
    x = ops.convert_to_tensor(x)
    return lambda: ops.convert_to_numpy(compiled(x))


def bare_gradient(model, x, y, divided=False):
    """The same of the gradients, in the images, of the cross-entropy."""
    view, call = called(model, divided)
    compiled = _backend.compile(gradients_of(call), view.variables)
    x, y = ops.convert_to_tensor(x), ops.convert_to_tensor(y)
    return lambda: ops.convert_to_numpy(compiled(x, y))


def gradients_of(call):
    """The gradients in images of their cross-entropy, not compiled."""

    def gradients(images, labels):
        values, pullback = _backend.vjp(
            lambda x: objectives.cross_entropy(call(x), labels), images
        )
        return pullback(ops.ones_like(values))

    return gradients


def called(model, divided=False):
    """A model's `Classifier`, and what to call, on the whole batch or parts."""
    view = classifier.Classifier(model)

    def whole(x):
        return ops.cast(model(x, training=False), "float32")

    return view, view if divided else whole


def now():
    """Wall-clock and processor time, in seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def median_and_interval(values, rng):
    """The median and its 95 % bootstrap interval."""
    draws = rng.integers(0, len(values), (1000, len(values)))
    medians = np.median(values[draws], axis=1)
    bounds = np.quantile(medians, [0.025, 0.975])
    return round(np.median(values), 3), [round(bound, 3) for bound in bounds]


def earlier(name, settings):
    """Yield the records of `--output` and `--earlier`, to be continued.

    What they have under the name must be of these settings.
    """
    for folder in filter(None, [FLAGS.output, *FLAGS.earlier]):
        path = pathlib.Path(folder) / results.DATA
        if not path.exists():
            continue
        found = json.loads(path.read_text("utf-8"))
        if {**settings, **found[name]} != settings:
            raise SystemExit(
                f"{path} is of other settings: name another folder. "
                f"Received: {found[name]}, now {settings}"
            )
        yield found


def record(figures, show=True):
    """Write the figures, if asked to, with what they depend on; print them.

    Some have a table, which is written beside them. `seconds` are those since
    this module was imported; figures may bring `data` of their own.
    """
    found = {
        **recorded.process(),
        "data": figures.get("data")
        or recorded.data(FLAGS.dataset, FLAGS.data_dir),
        "seed": FLAGS.seed,
        "seconds": round(time.perf_counter() - _BEGUN, 1),
    }
    result = {**found, **figures}
    if show:
        print(json.dumps(result, indent=1))
    if FLAGS.output:
        results.write(pathlib.Path(FLAGS.output), result)
