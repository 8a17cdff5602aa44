"""The flags of every experiment, and presets that shrink it.

The default of a flag of the training is the paper's value; `tables.py` gives
each row of a table its attacks. `--preset` changes those that are not
given on the command line, and says which.
"""

import _heads
from absl import flags

FLAGS = flags.FLAGS

# Flags that say where a run lives or how it is shown, not what it computes.
_NOT_SETTINGS = (
    "output_dir",
    "data_dir",
    "resume",
    "coordinator",
    "num_processes",
    "process_id",
)
# Those that decide what a trained model is asked, not how it is trained.
_NOT_TRAINING = (
    "preset",
    "snapshots",
    "snapshot_of",
    "robust_every",
    "attacks",
    "adaptive",
    "eval_images",
    "eps",
    "max_attack_steps",
)

# What presets change in every experiment; a script adds its own.
_PRESETS = {
    "paper": {},
    "gpu": {"epochs": 100, "eval_images": 1000},
    "cpu": {
        "epochs": 10,
        "train_images": 2000,
        "test_images": 1000,
        "attack_steps": 5,
        "eval_images": 100,
        "max_attack_steps": 50,
    },
    "smoke": {
        "epochs": 1,
        "train_images": 16,
        "test_images": 4,
        "batch_size": 8,
        "attack_steps": 1,
        "eval_images": 4,
        "max_attack_steps": 2,
    },
}
# Of the wide residual networks, which the cpu preset makes small.
SMALL_WIDE_RESNETS = {"cpu": {"depth": 10, "width": 2}}
_presets = {}


def define(presets=None, **defaults):
    """Define the flags.

    Args:
        presets: `{preset: {flag: value}}`, besides those of every experiment.
        **defaults: Values of this experiment, by flag.
    """
    for preset, values in _PRESETS.items():
        _presets[preset] = {**values, **(presets or {}).get(preset, {})}
    given = {
        "head": "robust",
        "activation": "tanh",
        "s": 0.1,
        "alpha": 100.0,
        "defense": "none",
        "epochs": 400,
        "batch_size": 128,
        "learning_rate": 0.01,
        "decay": 1.0,
        "augment": False,
        "eval_images": 0,
        "eps": [],
        "snapshots": [],
        **defaults,
    }

    def define(kind, name, text, **limits):
        kind(name, given.pop(name, None), text, **limits)

    def choice(name, values, text):
        flags.DEFINE_enum(name, given.pop(name, values[0]), values, text)

    string, integer, number, boolean, several = (
        flags.DEFINE_string,
        flags.DEFINE_integer,
        flags.DEFINE_float,
        flags.DEFINE_bool,
        flags.DEFINE_list,
    )
    choice("preset", list(_PRESETS), "Size of the experiment.")

    define(string, "dataset", "mnist5k, or a name of TensorFlow Datasets.")
    define(string, "data_dir", "TFDS directory; else TFDS_DATA_DIR.")
    for kind in ("train", "test"):
        text = f"{kind.title()} on the first so many images."
        define(integer, f"{kind}_images", text, lower_bound=1)
    define(boolean, "augment", "Pad by 4, crop at random, flip.")

    if "network" in given:
        networks = ["wide_resnet", "resnet32"]
        choice("network", networks, "Network to train.")
        integer("depth", 34, "Of the wide residual network.")
        integer("width", 10, "Of the wide residual network.")
    if "narrow" in given:
        define(integer, "narrow", "Divide widths by this.", lower_bound=1)
    choice(
        "head",
        ["robust", "plain", "mmc", *_heads.VARIANTS],
        "Classification head, or a variant of the robust one (_heads.py).",
    )
    text = "Activation of the classified features; leaky_relu has slope 0.01."
    define(string, "activation", text)
    define(number, "s", "Length of a class weight.", lower_bound=0)
    define(number, "alpha", "Weight of the penalty.", lower_bound=0)

    choice("defense", ["none", "at", "trades", "mart"], "Way of training.")
    define(number, "beta", "Of TRADES and MART; else as they were published.")
    define(number, "attack_eps", "Budget in training; else the paper's.")
    define(integer, "attack_steps", "Its steps; else as published.")
    define(number, "attack_step_size", "Its step; else as published.")

    define(integer, "epochs", "Training epochs.", lower_bound=1)
    define(integer, "batch_size", "Images a training step.", lower_bound=1)
    define(number, "learning_rate", "Of Adam.", lower_bound=0)
    define(number, "decay", "Factor on it each 60 epochs.", lower_bound=0)
    choice(
        "precision",
        ["float32", "mixed_bfloat16", "mixed_float16"],
        "Keras's dtype policy.",
    )
    integer("seed", 0, "Of weights, data order, attacks.", lower_bound=0)
    define(
        integer,
        "robust_every",
        "Attack training and test images each so many epochs.",
        lower_bound=1,
    )
    define(
        several,
        "snapshots",
        "Keep the model as it is after these epochs, too.",
    )
    flags.register_validator(
        "snapshots",
        lambda epochs: all(epoch.isdecimal() for epoch in map(str, epochs)),
        "must be numbers of epochs",
    )
    string(
        "snapshot_of",
        None,
        "Folder of a longer run with a snapshot after --epochs: attack that, "
        "instead of training the same once more.",
    )

    choice(
        "distribute",
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
    string("coordinator", None, "host:port of process 0, if several train.")
    integer("num_processes", 1, "How many processes train.", lower_bound=1)
    integer("process_id", 0, "Number of this process.", lower_bound=0)

    define(string, "output_dir", "Folder of the run.")
    boolean("resume", False, "Go on with the run in output_dir.")
    define(
        several,
        "attacks",
        "Attacks to evaluate with: names of Table 1, such as pgd20; with "
        "another loss, as pgd20-margin; as its published script has it, "
        "mta100-published; autoattack.",
    )
    boolean("adaptive", False, "Try attacks that fit the model, too.")
    define(
        integer,
        "eval_images",
        "Attack the first so many test images; 0 for all.",
        lower_bound=0,
    )
    define(several, "eps", "Budgets of l-infinity attacks; else the paper's.")
    define(
        integer,
        "max_attack_steps",
        "Most iterations of an attack.",
        lower_bound=1,
    )
    if given:
        raise ValueError(f"There are no flags {sorted(given)}")


def apply_preset():
    """Set the flags of the preset that were not given; say which."""
    for name, value in _presets[FLAGS.preset].items():
        if FLAGS[name].using_default_value:
            FLAGS[name].value = value
    if changed := preset_changes():
        print(f"--preset={FLAGS.preset} stands for {' '.join(changed)}")


def check():
    """End the run if flags do not go together."""
    if FLAGS.defense == "mart" and FLAGS.head == "mmc":
        raise SystemExit(
            "--defense=mart has a loss of its own, and cannot train "
            "--head=mmc with the Max-Mahalanobis center loss: use "
            "--defense=at or trades."
        )


def preset_changes():
    """What the preset has changed of the paper's experiment, as flags."""
    flags_of_preset = [FLAGS[name] for name in _presets[FLAGS.preset]]
    return [
        f"--{flag.name}={flag.value}"
        for flag in flags_of_preset
        if flag.using_default_value and flag.value != flag.default
    ]


def settings():
    """All flags that decide what a run computes, by name."""
    ours = FLAGS.flags_by_module_dict()[__name__]
    return {f.name: f.value for f in ours if f.name not in _NOT_SETTINGS}


def of_training(settings):
    """Those of the settings that decide what is learned in an epoch."""
    return {
        name: value
        for name, value in settings.items()
        if name not in (*_NOT_TRAINING, "epochs")
    }
