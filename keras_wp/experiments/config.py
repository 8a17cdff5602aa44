"""What an experiment is: every value that decides what it trains and asks.

The default of a field is what the paper has in all of its experiments. Each
field is a flag of the same name, and `--preset` changes the fields that are
not given on the command line, and says which.
"""

import dataclasses
import functools

from keras_wp.experiments import heads, options
from keras_wp.experiments.options import asked, option, place

# What a preset stands for in every experiment, on a data set, in a network.
PRESETS = {
    "paper": {},
    "gpu": {"every": "--epochs=100 --eval_images=1000"},
    "cpu": {
        "every": "--epochs=10 --train_images=2000 --test_images=1000 "
        "--attack_steps=5 --eval_images=100 --max_attack_steps=50",
        # With few images and epochs, nothing is learned at the paper's 0.3.
        "mnist": "--dataset=mnist5k --attack_eps=0.1",
        "wide_resnet": "--depth=10 --width=2",
    },
    "smoke": {
        "every": "--epochs=1 --train_images=16 --test_images=4 --batch_size=8 "
        "--attack_steps=1 --eval_images=4 --max_attack_steps=2",
        "mnist": "--dataset=mnist5k",
    },
}
_NETWORKS = ("small_cnn", "wide_resnet", "resnet32", "preact_resnet18")
_HEADS = ("robust", "plain", "mmc", "hypersphere", *heads.VARIANTS)
DEFENSES = ("none", "at", "trades", "mart")
_PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
_count = functools.partial(option, None, least=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """An experiment; see each field's text."""

    preset: str = asked("paper", "Size of the experiment.", tuple(PRESETS))
    dataset: str = option("mnist", "mnist5k, or a name of TensorFlow Datasets.")
    data_dir: str | None = place(None, "TFDS directory; else TFDS_DATA_DIR.")
    train_images: int | None = _count("Train on the first so many images.")
    test_images: int | None = _count("Test on the first so many images.")
    augment: bool = option(False, "Pad by 4, crop at random, flip.")

    network: str = option("small_cnn", "Network to train.", _NETWORKS)
    depth: int = option(34, "Of the wide residual network.")
    width: int = option(10, "Of the wide residual network.")
    narrow: int = option(1, "Divide the small network's widths by it.", least=1)
    head: str = option("robust", "Head, or a variant (heads.py).", _HEADS)
    activation: str = option(
        "tanh", "Of the classified features; leaky_relu has slope 0.01."
    )
    s: float = option(0.1, "Length of a class weight.", least=0)
    alpha: float = option(100.0, "Weight of the penalty.", least=0)

    defense: str = option("none", "Way of training.", DEFENSES)
    beta: float | None = option(None, "Of TRADES and MART; else as published.")
    attack_eps: float | None = option(None, "In training; else published.")
    attack_steps: int | None = option(None, "Its steps; else published.")
    attack_step_size: float | None = option(None, "Its step; else published.")

    epochs: int = option(400, "Training epochs.", least=1)
    batch_size: int = option(128, "Images per training step.", least=1)
    learning_rate: float = option(0.01, "Of Adam.", least=0)
    decay: float = option(1.0, "Factor on it every 60 epochs.", least=0)
    precision: str = option("float32", "Keras's dtype policy.", _PRECISIONS)
    seed: int = option(0, "Of weights, data order, attacks.", least=0)
    robust_every: int | None = _count(
        "Attack training and test images every so many epochs.", role="asked"
    )
    snapshots: tuple[str, ...] = asked(
        (), "Keep the model as it is after these epochs, too."
    )
    snapshot_of: str | None = asked(
        None,
        "Folder of a longer run with a snapshot after --epochs: attack that, "
        "instead of training the same once more.",
    )

    distribute: str = option(
        "none",
        "Train on one device, on all that TensorFlow has (mirrored), or on "
        "all that JAX has (jax, with KERAS_BACKEND=jax).",
        ("none", "mirrored", "jax"),
    )
    num_logical_devices: int | None = _count("Split the CPU into so many.")
    coordinator: str | None = place(None, "host:port of process 0.")
    num_processes: int = place(1, "How many processes train.", least=1)
    process_id: int = place(0, "Number of this process.", least=0)

    output_dir: str = place("runs/experiment", "Folder of the run.")
    resume: bool = place(False, "Continue the run in output_dir.")
    attacks: tuple[str, ...] = asked(
        (),
        "As keras_wp.attacks.get knows them: pgd20-paper; with another loss, "
        "pgd20-paper-margin; as its published script has it, "
        "mta100-paper-published; autoattack.",
    )
    adaptive: bool = asked(False, "Try attacks that fit the model, too.")
    eval_images: int = asked(
        0, "Attack the first so many test images; 0 for all.", least=0
    )
    eps: tuple[str, ...] = asked(
        (), "Budgets of l-infinity attacks; else the paper's."
    )
    max_attack_steps: int | None = _count(
        "Most iterations of an attack.", role="asked"
    )

    def settings(self):
        """What decides what a run computes, as JSON knows it."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
            if name in options.of_role(self, None, "asked")
        }


_WIDE = {"network": "wide_resnet", "augment": True, "decay": 0.9}
# The paper's four experiments. The scripts in `examples/` show every value.
EXPERIMENTS = {
    "mnist_small_cnn": Config(
        dataset="mnist",
        # Cross-entropy alone is fooled by logits that are large or saturate;
        # the margin is not.
        attacks=("fgsm", "pgd40-paper", "pgd40-paper-margin"),
        eps=("0.1", "0.2", "0.3"),
        eval_images=1000,
        output_dir="runs/mnist_small_cnn",
    ),
    "cifar10_small_cnn": Config(
        dataset="cifar10",
        attacks=(
            "pgd20-paper",
            "pgd20-paper-margin",
            "pgd100-paper",
            "deepfool50",
            "mta100-paper",
        ),
        output_dir="runs/cifar10_small_cnn",
    ),
    "cifar10_wrn": Config(
        dataset="cifar10",
        **_WIDE,
        attacks=("pgd20-paper", "pgd20-paper-margin", "deepfool50", "cw1000"),
        output_dir="runs/cifar10_wrn",
    ),
    "cifar100_wrn": Config(
        dataset="cifar100",
        **_WIDE,
        attacks=(
            "pgd20-paper",
            "pgd20-paper-margin",
            "pgd100-paper",
            "deepfool50",
            "cw1000",
        ),
        output_dir="runs/cifar100_wrn",
    ),
}


def of_training(settings):
    """Those of the settings that decide what is learned in an epoch."""
    others = {"epochs", *options.of_role(Config(), "asked")}
    return {n: value for n, value in settings.items() if n not in others}


def preset_changes(experiment, preset, given):
    """What a preset changes of an experiment, but for the fields given."""
    kinds = ("every", experiment.dataset, experiment.network)
    words = " ".join(PRESETS[preset].get(kind, "") for kind in kinds).split()
    return {
        name: value
        for name, value in options.parse(experiment, words).items()
        if name not in given and getattr(experiment, name) != value
    }


def resolve(experiment, **given):
    """The `Config` of an experiment with some values given, preset and all."""
    preset = given.get("preset", experiment.preset)
    changes = preset_changes(experiment, preset, given)
    return dataclasses.replace(experiment, **changes, **given)
