"""The small network of the paper on MNIST, with the robust head: Table 4.

Xu, Li and Yang, "Improve Adversarial Robustness via Weight Penalization on
Classification Layer", section 4.2.

    python examples/mnist_small_cnn.py --dataset=mnist5k --epochs=8

trains on 4,000 digits that need no download, and takes a few minutes on two
CPU cores. Without `--dataset` it reads MNIST through TensorFlow Datasets.

    --head=plain                                      the ordinary head
    --head=plain --activation=relu --defense=at       adversarial training
    --head=mmc                                        Max-Mahalanobis center
    --attacks=autoattack --adaptive                   what is left of it
    --distribute=mirrored --num_logical_devices=2     two halves of a CPU
"""

from keras_wp.experiments.config import Config
from keras_wp.experiments.training import main

EXPERIMENT = Config(
    dataset="mnist",
    augment=False,
    network="small_cnn",
    head="robust",
    activation="tanh",
    s=0.1,
    alpha=100.0,
    epochs=400,
    batch_size=128,
    learning_rate=0.01,
    # Cross-entropy alone is fooled by logits that are large or saturate; the
    # margin is not.
    attacks=("fgsm", "pgd40-paper", "pgd40-paper-margin"),
    eps=("0.1", "0.2", "0.3"),
    eval_images=1000,
    output_dir="runs/mnist_small_cnn",
)

if __name__ == "__main__":
    main(EXPERIMENT)
