"""Parts of an evaluation by themselves, as an audit is given them."""

from keras import ops

from keras_wp.audit.subject import Subject
from keras_wp.evaluation.clean import clean_pass
from keras_wp.evaluation.data import Data
from keras_wp.evaluation.progress import Progress
from keras_wp.inspection.classifier import Classifier


def clean(model, x, y, **options):
    """The clean pass of an evaluation."""
    return clean_pass(
        Classifier(model),
        Data((x, y)),
        16,
        Progress(False),
        **options,
    )


def trial_of(model, x, eps, norm="linf", robust=None, attacks=()):
    """The trial of an evaluation of images that the model has labelled."""
    logits = ops.convert_to_numpy(model(ops.convert_to_tensor(x)))
    found = clean(model, x, logits.argmax(-1))
    classifier = Classifier(model)
    classifier.kept = model  # Which it does not keep alive itself.
    trial = Subject(
        classifier=classifier,
        clean=found,
        norm=norm,
        eps=eps,
        bounds=(0.0, 1.0),
        seed=0,
        batch_size=16,
        robust=found.correct if robust is None else robust,
        rows=[],
        attacks=[*attacks],
        adaptive=None,
        blind=[],
        surrogates=(),
    )
    trial.pick(lambda indices: [(i, x[i]) for i in indices])
    return trial
