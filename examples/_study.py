"""What the studies that are not in the paper share: scripts and sizes."""

import _runs
from absl import flags

FLAGS = flags.FLAGS

SCRIPTS = ("mnist_small_cnn", "cifar10_small_cnn", "cifar10_wrn")
# Flags that make another study of it.
_CHOICES = ("defenses", "variants", "methods", "checkpoints", "seeds")
# More than any attack has, so that what is called AutoAttack is the standard
# suite: the cpu preset would shorten it.
_WHOLE = {"max_attack_steps": 5000}
# What a script is told besides its preset.
_SIZES = {
    ("mnist_small_cnn", "paper"): {"eps": 0.3, "eval_images": 0},
    ("mnist_small_cnn", "gpu"): {"eps": 0.3},
    # Few epochs do not withstand 0.3.
    ("mnist_small_cnn", "cpu"): {"eps": 0.1, "narrow": 2, **_WHOLE},
    ("mnist_small_cnn", "smoke"): {"eps": 0.1, "narrow": 4},
    ("cifar10_small_cnn", "cpu"): {"narrow": 4, **_WHOLE},
    ("cifar10_small_cnn", "smoke"): {"narrow": 4},
    ("cifar10_wrn", "cpu"): _WHOLE,
    ("cifar10_wrn", "smoke"): {"depth": 10, "width": 1},
}


def define_flags(scripts, seeds):
    """The flags of a study.

    Args:
        scripts: The experiments that it may consist of.
        seeds: The seeds it has unless told otherwise.
    """
    _runs.define_flags()
    flags.DEFINE_enum("script", scripts[0], scripts, "Experiment to repeat.")
    flags.DEFINE_string("dataset", None, "Data set, if not the experiment's.")
    flags.DEFINE_list("seeds", seeds, "Repeat with each of these seeds.")


def seeds():
    """The seeds as numbers."""
    try:
        found = [int(seed) for seed in FLAGS.seeds]
    except ValueError:
        found = []
    if not found or len(set(found)) < len(found):
        raise SystemExit(
            "--seeds must be one integer or several different ones. "
            f"Received: {','.join(FLAGS.seeds) or 'none'}"
        )
    return found


def experiment(name, **given):
    """An experiment of the study, by its name and its flags."""
    given = {**_SIZES.get((FLAGS.script, FLAGS.preset), {}), **given}
    if FLAGS.dataset:
        name = f"{FLAGS.dataset}-{name}"
        given["dataset"] = FLAGS.dataset
    return _runs.Experiment(name, FLAGS.script, given)


def path(study, more=()):
    """Where the study's result is put, without a suffix.

    Args:
        study: Its name.
        more: Flags of the experiments that were given by hand.
    """
    parts = [study, FLAGS.script, FLAGS.dataset, FLAGS.preset]
    for name in _CHOICES:
        if name in FLAGS and FLAGS[name].value != FLAGS[name].default:
            parts += [name, *FLAGS[name].value]
    parts += [flag.lstrip("-").replace("/", "_") for flag in more]
    return "-".join(part for part in parts if part)
