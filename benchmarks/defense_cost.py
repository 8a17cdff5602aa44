"""What a step of adversarial training costs beyond its gradients.

A step with `k` attack steps needs `k` gradients with respect to the images,
and an ordinary training step on what comes out. Three programs on the same
batch of random images are timed in turns, each round in another order,
because the machine's speed wanders:

- a bare compiled gradient of the model, of the whole batch in one pass, as
  `floor.py` has it (the attack passes halves of a batch side by side);
- `train_on_batch` of the model;
- `train_on_batch` of `AdversarialTraining(model, PGD(steps=k))`.

The ratio is the median over the rounds of

    seconds of the third / (k * seconds of the first + seconds of the second)

with a 95 % bootstrap interval; once in wall-clock time, and once in the
processor time of the process, which other programs disturb less. The same is
reported of `TRADES` and `MART`, which train on two passes, of
`FastAdversarialTraining`, whose attack is one step, and of `AWP` around
`AdversarialTraining`, which goes through the model in training twice: `needs`
says how many gradients and how many ordinary steps are counted. (The forward
pass in inference mode that TRADES compares with is not.)

    python -m benchmarks.defense_cost --form=cifar --steps=10 --rounds=15
"""

import keras
import numpy as np
from absl import app, flags

import keras_wp as kwp
from benchmarks.common import (
    FLAGS,
    bare_gradient,
    median_and_interval,
    now,
    record,
)
from keras_wp.models.small_cnn import COLOR_WIDTHS, GREY_WIDTHS

flags.DEFINE_enum("form", "cifar", ["mnist", "cifar"], "Form of the CNN.")
flags.DEFINE_integer("steps", 10, "Steps of the attack.")
flags.DEFINE_integer("batch", 128, "Images of a step.")
flags.DEFINE_list("defenses", None, "Which of them; by default, all.")
flags.DEFINE_integer("rounds", 15, "Measurements of each program.")

SHAPES = {"mnist": (28, 28, 1), "cifar": (32, 32, 3)}
WIDTHS = {"mnist": GREY_WIDTHS, "cifar": COLOR_WIDTHS}
EPS = {"mnist": 0.3, "cifar": 8 / 255}
NUM_CLASSES = 10
WARM_UP = 2
# How many ordinary training steps the passes of each amount to.
NEEDS = {
    "AdversarialTraining": 1,
    "TRADES": 2,
    "MART": 2,
    "FastAdversarialTraining": 1,
    "AWP": 2,
}


def small_cnn():
    """The network, the same weights each time."""
    keras.utils.set_random_seed(FLAGS.seed)
    return kwp.models.small_cnn(
        SHAPES[FLAGS.form],
        NUM_CLASSES,
        widths=[width // FLAGS.narrow for width in WIDTHS[FLAGS.form]],
    )


def compiled(model):
    """The model, ready to train, with an accuracy as users have it."""
    model.compile(
        keras.optimizers.Adam(0.001),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def training_step(model, x, y):
    """A function of no arguments: one training step."""
    model = compiled(model)
    # The loss it returns is a number, so the step is over.
    return lambda: model.train_on_batch(x, y)


def defense(name):
    """The defense with this name, around a network of its own."""
    model, eps = small_cnn(), EPS[FLAGS.form]
    if name == "FastAdversarialTraining":
        return kwp.defenses.FastAdversarialTraining(model, eps)
    attack = kwp.attacks.PGD(eps=eps, steps=FLAGS.steps)
    if name == "AWP":
        return kwp.defenses.AWP(kwp.defenses.AdversarialTraining(model, attack))
    return getattr(kwp.defenses, name)(model, attack)


def programs(x, y):
    """What is timed, by name."""
    return {
        "gradient": bare_gradient(small_cnn(), x, y),
        "ordinary": training_step(small_cnn(), x, y),
        **{
            name: training_step(defense(name), x, y)
            for name in FLAGS.defenses or NEEDS
        },
    }


def measure(timed):
    """Seconds of each program: arrays (rounds, clocks)."""
    seconds = {name: [] for name in timed}
    for number in range(-WARM_UP, FLAGS.rounds):
        for name in reversed(timed) if number % 2 else timed:
            # A bare gradient is short beside the clock of a busy machine.
            repeats = FLAGS.steps if name == "gradient" else 1
            begun = now()
            for _ in range(repeats):
                timed[name]()
            if number >= 0:
                seconds[name].append((now() - begun) / repeats)
    return {name: np.array(values) for name, values in seconds.items()}


def main(_):
    """Time the programs in turns and print the ratios."""
    rng = np.random.default_rng(FLAGS.seed)
    shape = (FLAGS.batch, *SHAPES[FLAGS.form])
    x = keras.ops.convert_to_tensor(rng.random(shape, dtype=np.float32))
    y = rng.integers(0, NUM_CLASSES, FLAGS.batch).astype(np.int32)
    y = keras.ops.convert_to_tensor(y)
    seconds = measure(programs(x, y))
    figures = {}
    for name in FLAGS.defenses or NEEDS:
        steps = NEEDS[name]
        gradients = 1 if name == "FastAdversarialTraining" else FLAGS.steps
        needed = gradients * seconds["gradient"] + steps * seconds["ordinary"]
        ratios = seconds[name] / needed
        figures[name] = {"needs": {"gradients": gradients, "steps": steps}}
        for i, clock in enumerate(("wall", "processor")):
            median, interval = median_and_interval(ratios[:, i], rng)
            figures[name][f"ratio_{clock}"] = median
            figures[name][f"ratio_{clock}_interval"] = interval
    record(
        {
            "data": f"random images, {FLAGS.form} form",
            "batch": FLAGS.batch,
            "steps": FLAGS.steps,
            "rounds": FLAGS.rounds,
            "milliseconds": {
                name: (1000 * np.median(values, axis=0)).round(2).tolist()
                for name, values in seconds.items()
            },
            **figures,
        }
    )


if __name__ == "__main__":
    app.run(main)
