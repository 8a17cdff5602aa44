"""What an audit costs, against the evaluation that it is about.

    python benchmarks/audit_cost.py --dataset=mnist5k --training=adversarial

evaluates 500 digits by PGD-40 at l-infinity 0.3 without and with the audit.
Processor time of each, compilation included; the ratio is what counts. Four
minutes on one core, with the training.
"""

import time

import _common as common
import keras
from absl import app, flags

import keras_wp as kwp

FLAGS = flags.FLAGS
flags.DEFINE_integer("images", 500, "Test images.")
flags.DEFINE_float("eps", 0.3, "Radius of the ball.")


def timed(model, data, **options):
    attack = kwp.attacks.PGD(eps=FLAGS.eps, steps=40, step_size=0.01)
    begun = time.process_time()
    report = kwp.evaluate(model, data, [attack], progress=False, **options)
    return time.process_time() - begun, report


def main(_):
    data = common.load()
    model = common.network(data)
    _, (x, y) = data
    data = x[: FLAGS.images], y[: FLAGS.images]
    # What is compiled is kept for a model, and each is to pay for its own.
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    plain, report = timed(model, data)
    audited, with_audit = timed(twin, data, audit=True)
    common.record(
        {
            "images": len(data[0]),
            "eps": FLAGS.eps,
            "training": FLAGS.training,
            "clean_accuracy": report.clean_accuracy,
            "robust_accuracy": report.robust_accuracy,
            "findings": [f.check for f in with_audit.findings],
            "plain_processor_seconds": plain,
            "audited_processor_seconds": audited,
            "ratio": audited / plain,
        }
    )


if __name__ == "__main__":
    app.run(main)
