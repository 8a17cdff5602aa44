"""WRN-34-10 on CIFAR-100 with the robust head: Table 3 of the paper.

Xu, Li and Yang, "Improve Adversarial Robustness via Weight Penalization on
Classification Layer", section 4.1: as on CIFAR-10 (see `cifar10_wrn.py`), Adam
with a learning rate of 0.01 that falls by a tenth each 60 epochs, batches of
128, 400 epochs, augmented images, s = 0.1, alpha = 100.

    python examples/cifar100_wrn.py --precision=mixed_bfloat16

reads CIFAR-100 through TensorFlow Datasets, and is meant for GPUs.

    --distribute=mirrored                             all GPUs of a machine
    --preset=smoke                                    a few images, seconds
    --resume                                          after an interruption
"""

import functools

import _common as common
import _flags
import _heads
import _training as training
from absl import app, flags

import keras_wp as kwp

FLAGS = flags.FLAGS
_flags.define(
    dataset="cifar100",
    network="wide_resnet",
    augment=True,
    decay=0.9,
    attacks=["pgd20", "pgd20-margin", "pgd100", "deepfool50", "cw1000"],
    output_dir="runs/cifar100_wrn",
    presets=_flags.SMALL_WIDE_RESNETS,
)


def main(argv):
    run, train, test = common.start(argv)

    def build_model():
        network = functools.partial(
            kwp.models.wide_resnet, FLAGS.depth, FLAGS.width
        )
        arguments = common.network_arguments(run, train[0])
        return _heads.build(network, **arguments)

    model = training.train(run, build_model, train, test)
    common.evaluate(run, model, test)


if __name__ == "__main__":
    app.run(main)
