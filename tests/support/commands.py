"""What the tests of cli and arguments share."""

from keras_wp.cli import main


def run(*args):
    return main([str(arg) for arg in args])


# Plain attacks: what else is done by default takes its time.
PLAINLY = ("--no-audit", "--no-adaptive")
EVALUATE = (
    *("--dataset", "mnist", "--attacks", "fgsm,pgd20"),
    *PLAINLY,
    *("--eps", "0.1"),
)
