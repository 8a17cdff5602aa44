"""WRN-34-10 on CIFAR-10 with the robust head: Table 2 of the paper.

Xu, Li and Yang, "Improve Adversarial Robustness via Weight Penalization on
Classification Layer", section 4.1.

    python examples/cifar10_wrn.py --precision=mixed_bfloat16

reads CIFAR-10 through TensorFlow Datasets, and is meant for GPUs. The table's
other rows:

    --defense=at --head=plain --activation=relu       adversarial training
    --defense=trades --head=plain --activation=relu   TRADES
    --defense=mart --head=plain --activation=relu     MART
    --network=resnet32 --head=mmc                     Max-Mahalanobis center
"""

from keras_wp.experiments.config import Config
from keras_wp.experiments.training import main

EXPERIMENT = Config(
    dataset="cifar10",
    augment=True,  # padded by 4 that mirror, cropped at random, flipped
    network="wide_resnet",
    depth=34,
    width=10,
    head="robust",
    activation="tanh",
    s=0.1,
    alpha=100.0,
    epochs=400,
    batch_size=128,
    learning_rate=0.01,
    decay=0.9,  # of the learning rate, every 60 epochs
    attacks=("pgd20-paper", "pgd20-paper-margin", "deepfool50", "cw1000"),
    output_dir="runs/cifar10_wrn",
)

if __name__ == "__main__":
    main(EXPERIMENT)
