"""What the tests of cli and arguments share."""

from keras_wp.cli import main


def run(*args):
    return main([str(arg) for arg in args])


EVALUATE = ("--dataset", "mnist", "--attacks", "fgsm,pgd20", "--eps", "0.1")
