"""What the studies that are not in the paper share: scripts and sizes."""

import _runs
from absl import flags

FLAGS = flags.FLAGS

SCRIPTS = ("mnist_small_cnn", "cifar10_small_cnn", "cifar10_wrn")
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
        return [int(seed) for seed in FLAGS.seeds]
    except ValueError:
        raise SystemExit(
            f"--seeds must be integers. Received: {','.join(FLAGS.seeds)}"
        ) from None


def experiment(name, **given):
    """An experiment of the study, by its name and its flags."""
    given = {**_SIZES.get((FLAGS.script, FLAGS.preset), {}), **given}
    if FLAGS.dataset:
        name = f"{FLAGS.dataset}-{name}"
        given["dataset"] = FLAGS.dataset
    return _runs.Experiment(name, FLAGS.script, given)


def path(study):
    """Where the study's result is put, without a suffix."""
    parts = [study, FLAGS.script, FLAGS.dataset, FLAGS.preset]
    return "-".join(part for part in parts if part)
