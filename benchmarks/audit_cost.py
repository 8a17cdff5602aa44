"""What adaptive attacks and an audit cost, against AutoAttack.

    python -m benchmarks.audit_cost --dataset=mnist5k --training=adversarial

evaluates 500 digits at l-infinity 0.3 by PGD-40; by PGD-40 with the audit; with
adaptive attacks and the audit; and by AutoAttack. Processor time of each,
compilation included; the ratios are what counts. Ten minutes on one core, with
the training. The model is the paper's network, or one of the healthy models of
the audit's table:

    python -m benchmarks.audit_cost --healthy="cnn, adversarial" --eps=0.1
"""

import time

import keras
from absl import app, flags
from bases import digits
from healthy_models import HEALTHY

import keras_wp as kwp
from benchmarks import common

FLAGS = flags.FLAGS
flags.DEFINE_integer("images", 500, "Test images.")
flags.DEFINE_float("eps", 0.3, "Radius of the ball.")
flags.DEFINE_enum(
    "healthy", None, sorted(HEALTHY), "A model of the audit's table instead."
)


def timed(model, data, attack, **options):
    """Processor seconds of an evaluation, and its report."""
    # What is compiled is kept for a model, and each is to pay for its own.
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    begun = time.process_time()
    options = {"adaptive": False, "audit": False, **options}
    report = kwp.evaluate(twin, data, [attack], progress=False, **options)
    return time.process_time() - begun, report


def model_and_test():
    """What is evaluated, and the images for it."""
    if FLAGS.healthy:
        return HEALTHY[FLAGS.healthy](), digits(FLAGS.images)[1]
    data = common.load()
    model = common.network(data)
    _, (x, y) = data
    return model, (x[: FLAGS.images], y[: FLAGS.images])


def main(_):
    model, data = model_and_test()
    pgd = kwp.attacks.PGD(eps=FLAGS.eps, steps=40, step_size=FLAGS.eps / 30)
    auto_attack = kwp.attacks.AutoAttack(eps=FLAGS.eps)
    seconds, reports = {}, {}
    for name, attack, options in (
        ("pgd", pgd, {}),
        ("audit", pgd, {"audit": True}),
        ("adaptive_and_audit", pgd, {"adaptive": True, "audit": True}),
        ("auto_attack", auto_attack, {}),
    ):
        seconds[name], reports[name] = timed(model, data, attack, **options)
        print(f"{name}: {seconds[name]:.1f} s", flush=True)
    added = seconds["adaptive_and_audit"] - seconds["pgd"]
    found = reports["adaptive_and_audit"].findings
    common.record(
        {
            "images": len(data[0]),
            "eps": FLAGS.eps,
            "model": FLAGS.healthy or f"the paper's, {FLAGS.training}",
            **({"data": "mnist5k"} if FLAGS.healthy else {}),
            "clean_accuracy": reports["pgd"].clean_accuracy,
            "robust_accuracy": {
                name: report.robust_accuracy for name, report in reports.items()
            },
            "findings": [(f.severity, f.check) for f in found],
            "processor_seconds": seconds,
            "audit_over_pgd": seconds["audit"] / seconds["pgd"],
            "added_over_auto_attack": added / seconds["auto_attack"],
        }
    )


if __name__ == "__main__":
    app.run(main)
