"""Which model is meant: that behind a method of it, or several as one."""

import keras

from keras_wp.inspection.anatomy import undefended
from keras_wp.inspection.endings import mean_of

# Methods of a model that stand for it, and have no gradients.
_CALLS = {"__call__", "predict", "predict_on_batch"}


class Ensemble:
    """The logarithms of the mean probabilities of several models.

    Args:
        members: Their `Classifier`s.
    """

    name = "ensemble"

    def __init__(self, members):
        self.members = tuple(members)

    def __call__(self, x):
        logits = [member(x) for member in self.members]
        return mean_of(*logits, squashes=[m.view.squash for m in self.members])


def meant(model, classifier):
    """The model that is to be attacked.

    Raises:
        ValueError: If it is a module of PyTorch in training mode.

    Args:
        model: A model, a defense, a method `predict`, or a list of models.
        classifier: Makes a `Classifier` of each of a list.
    """
    if isinstance(model, (list, tuple)) and model and all(map(callable, model)):
        return Ensemble(map(classifier, model))
    foreign = not isinstance(model, keras.Layer) and hasattr(model, "eval")
    if foreign and getattr(model, "training", None) is True:
        raise ValueError(
            "The model must be in inference mode: call its `eval()` before. "
            f"Received: a {type(model).__name__} in training mode"
        )
    owner = getattr(model, "__self__", None)
    if isinstance(owner, keras.Model) and model.__name__ in _CALLS:
        model = owner
    return undefended(model)
