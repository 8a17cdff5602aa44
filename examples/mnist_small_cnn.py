"""The small network of the paper on MNIST, with the robust head.

Xu, Li and Yang, "Improve Adversarial Robustness via Weight Penalization on
Classification Layer", section 4.2: Adam, learning rate 0.01, batches of 128,
400 epochs, s = 0.1, alpha = 100.

    python examples/mnist_small_cnn.py --dataset=mnist5k --epochs=8

trains on 4,000 digits that need no download, and takes a few minutes on two
CPU cores. Without `--dataset` it reads MNIST through TensorFlow Datasets.

    --head=plain                                      the ordinary head
    --distribute=mirrored                             all GPUs
    --distribute=mirrored --num_logical_devices=2     two halves of a CPU
    --resume                                          after an interruption
"""

import _common as common
import _training as training
from absl import app, flags

import keras_wp

FLAGS = flags.FLAGS
common.define_flags(dataset="mnist", output_dir="runs/mnist_small_cnn")


def attacks():
    """FGSM, and PGD as in Table 1 with two losses.

    Cross-entropy alone is fooled by logits that are large or saturate; the
    margin is not.
    """
    # The budgets come from --eps; this one is only where they start.
    pgd = {"eps": 0.3, "steps": 40, "step_size": 0.01, "seed": FLAGS.seed}
    return [
        keras_wp.attacks.FGSM(eps=0.3),
        keras_wp.attacks.PGD(loss="cross_entropy", **pgd),
        keras_wp.attacks.PGD(loss="margin", **pgd),
    ]


def main(_):
    run, train, test = common.start()
    images, labels = train

    def build_model():
        return keras_wp.models.small_cnn(
            images.shape[1:],
            num_classes=int(labels.max()) + 1,
            head=FLAGS.head,
            activation=FLAGS.activation,
            s=FLAGS.s,
            alpha=FLAGS.alpha,
            mean=images.mean(axis=(0, 1, 2)),
            std=images.std(axis=(0, 1, 2)),
        )

    model = training.train(run, build_model, train, test)
    common.evaluate(run, model, test, attacks())


if __name__ == "__main__":
    app.run(main)
