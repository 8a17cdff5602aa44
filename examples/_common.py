"""What the examples share: flags, quiet logs, devices, a run's folder.

An example declares its flags with `define_flags`, calls `start`, trains with
`_training.train` and ends with `evaluate`. A run lives in a folder:

    settings.json            the flags it was started with
    checkpoint.weights.h5    the state after the last whole epoch
    history.json             one record an epoch
    model.keras              the trained model
    saved_model/             the same for TensorFlow Serving
    evaluation/              verdicts as they come
    report.json, report.md   the result
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import sys

import _quiet
import keras
from absl import flags, logging

import keras_wp

logging.set_verbosity(logging.ERROR)
FLAGS = flags.FLAGS

# Flags that say where a run lives or how it is shown, not what it computes.
_NOT_SETTINGS = ("output_dir", "data_dir", "resume")
_STATE = (
    "settings.json",
    "checkpoint.weights.h5",
    "history.json",
    "model.keras",
    "saved_model",
    "evaluation",
    "report.json",
    "report.md",
)


def define_flags(**defaults):
    """Define the flags of an example; `defaults` override ours by name."""
    default = {
        "dataset": "mnist",
        "head": "robust",
        "activation": "tanh",
        "s": 0.1,
        "alpha": 100.0,
        "epochs": 400,
        "batch_size": 128,
        "learning_rate": 0.01,
        "output_dir": "runs/latest",
        "eval_images": 1000,
        "eps": ["0.1", "0.2", "0.3"],
        **defaults,
    }

    def define(kind, name, text, **limits):
        kind(name, default.get(name), text, **limits)

    string, integer, number, choice = (
        flags.DEFINE_string,
        flags.DEFINE_integer,
        flags.DEFINE_float,
        flags.DEFINE_enum,
    )
    define(string, "dataset", "mnist5k, or a name of TensorFlow Datasets.")
    define(string, "data_dir", "TFDS directory; else TFDS_DATA_DIR.")
    choice("head", default["head"], ["robust", "plain"], "Classification head.")
    define(string, "activation", "Activation of the classified features.")
    define(number, "s", "Length of a class weight.", lower_bound=0)
    define(number, "alpha", "Weight of the penalty.", lower_bound=0)
    define(integer, "epochs", "Training epochs.", lower_bound=1)
    define(integer, "batch_size", "Images a training step.", lower_bound=1)
    define(number, "learning_rate", "Of Adam.", lower_bound=0)
    integer("seed", 0, "Of weights, data order, attacks.", lower_bound=0)
    choice(
        "distribute",
        "none",
        ["none", "mirrored", "jax"],
        "Train on one device, on all that TensorFlow has (mirrored), or on "
        "all that JAX has (jax, with KERAS_BACKEND=jax).",
    )
    define(
        integer,
        "num_logical_devices",
        "Split the CPU into so many devices.",
        lower_bound=1,
    )
    define(string, "output_dir", "Folder of the run.")
    flags.DEFINE_bool("resume", False, "Go on with the run in output_dir.")
    define(
        integer,
        "eval_images",
        "Attack the first so many test images; 0 for all.",
        lower_bound=0,
    )
    define(flags.DEFINE_list, "eps", "Budgets of the attacks, in [0, 1].")


@dataclasses.dataclass(frozen=True)
class Run:
    """A run's folder, and how its training is distributed."""

    folder: pathlib.Path
    strategy: object = None  # tf.distribute.Strategy, with TensorFlow only

    def path(self, name):
        return self.folder / name

    def scope(self):
        """Where a model is built so that its training is distributed."""
        if self.strategy is None:
            return contextlib.nullcontext()
        return self.strategy.scope()


def start():
    """Set seeds and devices, load the data, prepare the run's folder.

    Returns:
        `(run, (x_train, y_train), (x_test, y_test))`.
    """
    strategy = _distribute()
    keras.utils.set_random_seed(FLAGS.seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    train, test = _load_data()
    run = Run(pathlib.Path(FLAGS.output_dir), strategy)
    settings = {
        flag.name: flag.value
        for flag in FLAGS.flags_by_module_dict()[__name__]
        if flag.name not in _NOT_SETTINGS
    }
    settings["backend"] = keras.backend.backend()
    _prepare_folder(run, settings)
    return run, train, test


def _load_data():
    try:
        return keras_wp.datasets.load(FLAGS.dataset, FLAGS.data_dir)
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(str(error)) from None


def _distribute():
    """Set up the devices; the strategy to train under, if there is one."""
    backend = keras.backend.backend()
    needed = {"mirrored": "tensorflow", "jax": "jax"}.get(FLAGS.distribute)
    if needed and needed != backend:
        raise SystemExit(
            f"--distribute={FLAGS.distribute} needs KERAS_BACKEND={needed}. "
            f"Received: KERAS_BACKEND={backend}"
        )
    devices = _split_cpu(backend, FLAGS.num_logical_devices)
    if FLAGS.distribute == "none":
        return None
    if FLAGS.distribute == "mirrored":
        import tensorflow as tf

        strategy = tf.distribute.MirroredStrategy(devices)
        count = strategy.num_replicas_in_sync
    else:
        strategy = None
        count = len(keras.distribution.list_devices())
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(auto_shard_dataset=False)
        )
    if FLAGS.batch_size % count:
        raise SystemExit(
            f"--batch_size must be divisible by the {count} devices. "
            f"Received: --batch_size={FLAGS.batch_size}"
        )
    return strategy


def _split_cpu(backend, count):
    """Make `count` devices of the CPU; their names, for TensorFlow."""
    if count is None:
        return None
    if backend == "jax":
        import jax

        jax.config.update("jax_num_cpu_devices", count)
        return None
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * count,
    )
    return [f"CPU:{i}" for i in range(count)]


def _prepare_folder(run, settings):
    path = run.path("settings.json")
    if FLAGS.resume and path.exists():
        earlier = json.loads(path.read_text())
        changed = [
            f"--{name}={earlier.get(name)} (now {value})"
            for name, value in settings.items()
            if earlier.get(name) != value
        ]
        if changed:
            raise SystemExit(
                f"The run in {run.folder} was started with other settings: "
                f"{', '.join(changed)}. Repeat them to resume it, or leave "
                "out --resume to start afresh."
            )
        return
    if FLAGS.resume:
        print(f"There is no run to resume in {run.folder}: starting afresh.")
    old = [run.path(name) for name in _STATE if run.path(name).exists()]
    if any(item != path for item in old):
        print(
            f"Starting afresh: the earlier run in {run.folder} is removed "
            "(--resume would have gone on with it)."
        )
    for item in old:
        shutil.rmtree(item) if item.is_dir() else item.unlink()
    run.folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda to: to.write_text(json.dumps(settings, indent=2)))


def write_whole(path, write):
    """Write a file whole or not at all, whenever the process is killed."""
    # The suffixes stay, because Keras tells formats by them.
    partial = path.with_name(f"partial-{path.name}")
    write(partial)
    os.replace(partial, path)


def evaluate(run, model, test_data, attacks):
    """Attack a model, show the result, and write it and the exported model."""
    count = FLAGS.eval_images or len(test_data[0])
    data = tuple(array[:count] for array in test_data)
    print(f"\nAttacking {len(data[0])} test images.")
    report = keras_wp.evaluate(
        model,
        data,
        attacks=attacks,
        eps=[float(eps) for eps in FLAGS.eps],
        seed=FLAGS.seed,
        resume_dir=run.path("evaluation"),
        progress=sys.stdout.isatty(),
    )
    print(report)
    report.to_json(run.path("report.json"))
    run.path("report.md").write_text(report.to_markdown())
    with _quiet.stderr():
        model.export(run.path("saved_model"), verbose=False)
    names = "model.keras, saved_model, report.md and report.json"
    print(f"\nWritten to {run.folder}: {names}")
    return report
