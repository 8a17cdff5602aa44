"""The small network of the paper on CIFAR-10, with the robust head: Table 5.

Xu, Li and Yang, "Improve Adversarial Robustness via Weight Penalization on
Classification Layer", section 4.2.

    python examples/cifar10_small_cnn.py

reads CIFAR-10 through TensorFlow Datasets, and is meant for a GPU;
`--preset=cpu` trains on 2,000 images for 10 epochs.

    --head=plain --activation=relu --defense=at       adversarial training
    --head=mmc                                        Max-Mahalanobis center
    --robust_every=20                                 Figure 4's curves
"""

from keras_wp.experiments.config import Config
from keras_wp.experiments.training import main

EXPERIMENT = Config(
    dataset="cifar10",
    augment=False,
    network="small_cnn",
    head="robust",
    activation="tanh",
    s=0.1,
    alpha=100.0,
    epochs=400,
    batch_size=128,
    learning_rate=0.01,
    attacks=(
        "pgd20-paper",
        "pgd20-paper-margin",
        "pgd100-paper",
        "deepfool50",
        "mta100-paper",
    ),
    output_dir="runs/cifar10_small_cnn",
)

if __name__ == "__main__":
    main(EXPERIMENT)
