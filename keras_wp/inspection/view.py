"""How a model is seen: from images in the units of attacks to logits.

Most classifiers end in a softmax or a sigmoid, some have one output for two
classes, several outputs, or other inputs. Attacks need logits: a softmax is
left out where the model can be opened, which gives the numbers of the model
without it, and undone by the logarithm where not.
"""

import dataclasses
import math

import keras
import numpy as np
from keras import ops

from keras_wp import _checks
from keras_wp.inspection.anatomy import agree, dissect
from keras_wp.inspection.anatomy import ending as ending_of
from keras_wp.inspection.endings import squashed
from keras_wp.inspection.ends import Ends, InterfaceError, input_of, is_plain
from keras_wp.inspection.recorder import Recorder, name_of

# So many images and so much noise show what a model returns.
_IMAGES, _NOISE = 4, 8


class View:
    """Maps a model and images to float32 logits `(N, K)`.

    Args:
        units: The `keras_wp._units.Units` of the images, or None.
        inputs: The `keras_wp.Inputs`, or None.
        output: Which output of several, by name or place; or None.

    Attributes:
        rule: How the model's outputs become logits: `"logits"` as they are,
            `"log"` or `"logit"` of probabilities.
        anatomy: The steps that are run in the model's place, or None.
        notes: What is assumed, in words.
    """

    def __init__(self, units=None, inputs=None, output=None):
        self.units = units
        self._ends = Ends(inputs, output)
        self.rule, self.anatomy, self.notes = "logits", None, ()
        self._removed, self._direct, self.settled = None, True, False

    @property
    def trivial(self):
        """Whether a model is called on the images, and returns logits."""
        units = self.units is None or self.units.trivial
        plain = self._direct and self.rule == "logits" and self.anatomy is None
        return units and plain and self._ends.usual

    @property
    def squash(self):
        """`"sigmoid"` if each output was one of its own, else `"softmax"`."""
        return "sigmoid" if self._removed == "sigmoid" else "softmax"

    def of_member(self):
        """The view of another model of the same images."""
        other = View(self.units)
        other._ends = self._ends
        return other

    def inner(self):
        """The view of a member of an ensemble, given what the model takes."""
        other = self.of_member()
        other.units = None
        return other

    def outer(self):
        """The view of an ensemble, whose members choose their outputs."""
        return View(self.units)

    @property
    def key(self):
        """What tells this view from others of the same model; hashable."""
        units = self.units and self.units.key
        return (units, self._ends.key, self.rule, self._removed)

    def __call__(self, model, x):
        """Logits, `(N, K)` float32."""
        if self.anatomy is not None:
            return ops.cast(self.anatomy(x), "float32")
        return self._logits_of(self._shaped(model, x))

    def dissect(self, model, shape=None):
        """The `Anatomy` from images to logits. Outside of a trace."""
        if self.anatomy is not None:
            return self.anatomy
        if self.trivial:
            return dissect(model, shape)
        return _steps_of(model, lambda x: self(model, x), shape)

    def settle(self, model, x):
        """Find out what the model takes and returns. Outside of a trace.

        Args:
            model: The model.
            x: Some images `(N, ...)`, in the units of attacks.

        Raises:
            ValueError: If it returns nothing that can be taken for logits.
        """
        if self.settled or (self.trivial and is_plain(model)):
            return
        self.settled = True
        x = self._looked_at(np.asarray(x[:_IMAGES], np.float32))
        size, whole = input_of(model)
        opened = None
        if size is not None or whole:
            opened = self._opened(model, x, size)
        function = opened or (lambda x: self._outputs(model, x))
        values = self._values(function, x)
        if values is None:
            return
        self._direct = values.ndim == 2 and values.shape[-1] > 1
        values = ops.convert_to_numpy(self._flat(values))
        if values.min() >= 0 and values.max() <= 1:
            opened = self._unsquashed(model, x, opened, values)
        if opened is not None:
            self.anatomy = _followed(opened, self._logits_of)

    def _looked_at(self, x):
        """Some images, and noise: few may look alike to a model."""
        low, high = _checks.span(
            self.units.bounds if self.units else (x.min(), x.max() + 1e-3)
        )
        noise = np.random.default_rng(0).uniform(
            low, high, (_NOISE, *x.shape[1:])
        )
        return np.concatenate([x, noise.astype(np.float32)])

    def _unsquashed(self, model, x, opened, values):
        """What to run in the model's place, if it returns probabilities."""
        found = opened or self._dissect_outputs(model, x)
        ending = squashed(found) if found.steps else None
        if ending is not None:
            undone = _followed(found, ending.undo, ending.before)
            logits = self._values(undone, x)
            if logits is not None and agree(ending.squash(logits), values):
                self.notes += (f"{ending.kind} removed",)
                self._removed = ending.kind
                return undone
        if not np.ptp(values):
            return opened  # They may be anything.
        alone = values.shape[-1] == 1
        # A linear end may give numbers from 0 to 1 by chance.
        linear = bool(found.steps) and bool(ending_of(found)[1])
        if (alone and not linear) or _checks.are_probabilities(values):
            self.rule = "logit" if alone else "log"
            self.notes += (
                "logits are taken from its probabilities, as its "
                f"{'sigmoid' if alone else 'softmax'} cannot be left out",
            )
        return opened

    def _dissect_outputs(self, model, x):
        """The `Anatomy` from images to what the model returns."""
        shape = x.shape[1:]
        return _steps_of(model, lambda x: self._shaped(model, x), shape)

    def _values(self, function, x):
        """What a function returns for images, on the host; None if nothing."""
        try:
            with keras.StatelessScope():
                found = function(ops.convert_to_tensor(x))
            return np.nan_to_num(ops.convert_to_numpy(found))
        except InterfaceError:
            raise
        except Exception:  # A model that has no call of this kind.
            return None

    def _outputs(self, model, x):
        """What the model returns for its classes, as one tensor."""
        if self.units is not None:
            x = self.units.tensor(x)
        return self._ends(model, x)

    def _shaped(self, model, x):
        """What the model returns, `(N, K)` or `(N, 1)` float32."""
        return self._flat(self._outputs(model, x))

    def _flat(self, z):
        z = ops.cast(z, "float32")
        sizes = tuple(z.shape[1:])
        if len(sizes) == 1:
            return z
        if any(size is None for size in sizes) or (
            max(sizes, default=1) != math.prod(sizes)
        ):
            raise InterfaceError(
                "`model` must return logits of shape (N, K). Received: shape "
                f"(N, {', '.join(map(str, sizes))})"
            )
        return ops.reshape(z, (-1, math.prod(sizes)))

    def _logits_of(self, z):
        """Logits `(N, K)` of outputs `(N, K)` or `(N, 1)`."""
        if self.rule != "logits":
            odds = ops.log(ops.maximum(z, _TINY))
            if self.rule == "logit":
                odds = odds - ops.log(ops.maximum(1.0 - z, _TINY))
            z = odds
        # Of two classes with one output, the first has the logit 0.
        return ops.pad(z, ((0, 0), (1, 0))) if z.shape[-1] == 1 else z

    def _opened(self, model, x, size):
        """The steps of a model that takes no free floating-point batch."""
        anatomy = self._dissect_outputs(model, x)
        steps = tuple(
            dataclasses.replace(step, operation=_Whole())
            if _is_cast_to_whole(step)
            else step
            for step in anatomy.steps
        )
        anatomy = dataclasses.replace(anatomy, steps=steps)
        batch = np.resize(x, (size or len(x), *x.shape[1:]))
        expected = self._values(lambda x: self._shaped(model, x), batch)
        found = self._values(anatomy, batch) if steps else None
        if expected is None or found is None or not agree(found, expected):
            wants = f"batches of {size}" if size else "whole numbers"
            why = "; ".join(reason for _, reason in anatomy.closed)
            raise InterfaceError(
                f"The model takes {wants} only, and cannot be opened to take "
                "others: build it anew with a floating-point Input of any "
                f"batch size. Received: a {type(model).__name__}"
                + (f" ({why})" if why else "")
            )
        if size is not None:
            self.notes += (f"batches of {size} replaced by any",)
        else:
            self.notes += ("gradients pass the rounding of its Input",)
        self._removed = "fixed"
        return anatomy


def _steps_of(model, function, shape):
    """The `Anatomy` of a function of a model; without steps if it is closed."""
    anatomy = dissect(function, shape)
    if any(step.operation is function for step in anatomy.steps):
        closed = tuple((name_of(model), why) for _, why in anatomy.closed)
        return dataclasses.replace(anatomy, steps=(), closed=closed)
    return anatomy


def _followed(anatomy, function, symbols=None):
    """An anatomy with a function of one or some of its tensors at the end."""
    recorder = Recorder()
    output = recorder.call(function, *(symbols or (anatomy.output,)))
    steps = (*anatomy.steps, *recorder.steps)
    whole = dataclasses.replace(anatomy, steps=steps, output=output)
    return whole.pruned()


_TINY = float(np.finfo(np.float32).tiny)


class _Whole:
    """Rounds as a cast to whole numbers does, and passes the gradient."""

    name = "cast to whole numbers"
    passes_gradient = True

    def __call__(self, x):
        whole = ops.trunc(ops.stop_gradient(x))
        return whole + (x - ops.stop_gradient(x))


def _is_cast_to_whole(step):
    if not step.name.startswith("cast to "):
        return False
    (before,), (after,) = step.inputs, step.outputs
    return "float" in before.dtype and "int" in after.dtype
