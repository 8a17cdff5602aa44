"""WRN-34-10 on CIFAR-100 with the robust head: Table 3 of the paper.

Xu, Li and Yang, "Improve Adversarial Robustness via Weight Penalization on
Classification Layer", section 4.1.

    python examples/cifar100_wrn.py --precision=mixed_bfloat16

reads CIFAR-100 through TensorFlow Datasets, and is meant for GPUs.
"""

from keras_wp.experiments.config import Config
from keras_wp.experiments.training import main

EXPERIMENT = Config(
    dataset="cifar100",
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
    attacks=(
        "pgd20-paper",
        "pgd20-paper-margin",
        "pgd100-paper",
        "deepfool50",
        "cw1000",
    ),
    output_dir="runs/cifar100_wrn",
)

if __name__ == "__main__":
    main(EXPERIMENT)
