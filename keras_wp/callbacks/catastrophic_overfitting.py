"""Catastrophic overfitting: an alarm, and the way back."""

import dataclasses
import math
import warnings

from keras import ops

from keras_wp._checks import check_at_least, check_one_of, check_positive
from keras_wp.attacks import FGSM, PGD, Attack
from keras_wp.callbacks.backup import Kept
from keras_wp.callbacks.weight_averaging import set_aside
from keras_wp.evaluation import evaluate
from keras_wp.evaluation.data import Data
from keras_wp.inspection.anatomy import undefended

ACTIONS = ("switch", "stop", "warn")
# Steps of the attack that measures, and of the one that training falls back
# to. The latter decide what an epoch costs from then on.
_MEASURED_STEPS, _FALLBACK_STEPS = 10, 5


class CatastrophicOverfitting(Kept):
    """Sees training against one step collapse, and goes back.

    Adversarial training by one step may, within a fraction of an epoch, come
    to resist that step and nothing else. Before the training, and then at the
    end of every epoch, this callback measures the accuracy on a few images
    under FGSM and under PGD, within the defense's own ball. It is an alarm if

    - the accuracy under PGD is more than `drop` below the best so far,
    - and that under FGSM has risen since, or fallen by so much less that the
      two are further apart by more than `drop`. (Where both fall, the
      training diverges, and this callback leaves it alone.)

    Then it warns, once, and the model goes back to the weights of the best
    measurement. So does the optimizer, moments and averages of the weights
    included, as these, too, are those of a collapse, and a `WeightAveraging`
    of this training; its count of steps and its learning rate stay, so that
    schedules continue. It is the weights as they are trained that are
    measured, wherever it stands in the list. What is to follow is said by
    `action`:

    - `"switch"`: training continues against `fallback`, an attack of several
      steps, to the end of `fit`; the same step would lead to the same end.
      An epoch then costs more. A second alarm stops the training.
    - `"stop"`: training stops.
    - `"warn"`: there is the warning, and nothing else.

    Every epoch's logs have the last values measured, as `fgsm_accuracy` and
    `pgd_accuracy`; callbacks that are to see them come after this one in the
    list. A model that can no longer be measured, as its weights are no longer
    finite, has NaN.

    Args:
        data: `(x, y)` arrays, or a dataset of such pairs that ends: a few
            hundred images. Of a validation split, they serve to choose among
            checkpoints, too.
        attack: The `keras_wp.attacks.Attack` in place of PGD of 10 steps of
            `eps / 4`.
        fallback: The `keras_wp.attacks.Attack` to continue with. Defaults to
            PGD of 5 steps of `eps / 2`: the defense's own with that many
            steps, if it is a PGD already.
        action: `"switch"`, `"stop"` or `"warn"`.
        drop: How far the accuracy under PGD must fall, as a fraction of all
            images, above 0.
        steps: `None`, or a number of training steps after which it measures,
            too, again and again: a collapse is then noticed earlier.
        batch_size: As in `keras_wp.evaluate`.

    Raises:
        ValueError: If an argument is not as described; when training begins,
            if the model is no defense with an attack of a fixed `eps`, or
            cannot be evaluated on the data.

    Source: Wong, Rice and Kolter, "Fast is better than free: revisiting
    adversarial training" (ICLR 2020), who stop; Li et al., "Towards
    understanding fast adversarial training" (2020), who return to PGD when
    the accuracy under attack on validation data collapses.

    Example:

    >>> alarm = keras_wp.callbacks.CatastrophicOverfitting(
    ...     (x_val[:300], y_val[:300])
    ... )
    >>> defense.fit(x_train, y_train, epochs=30, callbacks=[alarm])
    """

    def __init__(
        self,
        data,
        attack=None,
        fallback=None,
        *,
        action="switch",
        drop=0.1,
        steps=None,
        batch_size=128,
    ):
        super().__init__()
        for name, given in (("attack", attack), ("fallback", fallback)):
            if not isinstance(given, (Attack, type(None))):
                raise ValueError(
                    f"Argument `{name}` must be a keras_wp.attacks.Attack. "
                    f"Received: {type(given).__name__}"
                )
        check_one_of(ACTIONS, action=action)
        check_positive(drop=drop)
        if steps is not None:
            check_at_least(1, steps=steps)
        Data(data)  # Which says what it cannot read.
        self._data, self._batch_size = data, batch_size
        self._attack, self._fallback = attack, fallback
        self._action, self._drop, self._steps = action, drop, steps

    def on_train_begin(self, logs=None):
        """Measures the model as it is.

        Raises:
            ValueError: If it is no defense, or cannot be measured.
        """
        self._prepare()
        self._values = self._measured()
        self._keep()

    def state(self):
        """The best measurement, with what it goes back to, and the last."""
        return {
            "alarms": self._alarms,
            "seen": self._seen,
            **{f"best_{name}": value for name, value in self._best.items()},
            **{f"last_{name}": value for name, value in self._values.items()},
            "kept": self._kept,
            **{f"of_{name}": value for name, value in self._averages.items()},
        }

    def resume(self, state):
        """Continues with a state, and against the attack of then."""
        self._prepare()
        self._alarms, self._seen = state["alarms"], state["seen"]
        self._best, self._values = (
            {name: state[f"{which}_{name}"] for name in self._attacks}
            for which in ("best", "last")
        )
        self._kept = state.get("kept", [])
        self._averages = {
            name.removeprefix("of_"): value
            for name, value in state.items()
            if name.startswith("of_")
        }
        if self._alarms and self._action == "switch":
            self.model.attack = self._next

    def _prepare(self):
        given = getattr(self.model, "attack", None)
        if getattr(given, "eps", None) is None:
            raise ValueError(
                "CatastrophicOverfitting watches over a defense whose attack "
                f"has an `eps`. Received: {type(self.model).__name__}"
            )
        self._given, self._seen, self._alarms = given, 0, 0
        self._kept, self._averages = [], {"count": 0}
        ball = {
            name: getattr(given, name) for name in ("eps", "norm", "bounds")
        }
        careful = PGD(steps=_MEASURED_STEPS, step_size=ball["eps"] / 4, **ball)
        self._attacks = {
            "fgsm_accuracy": FGSM(**ball),
            "pgd_accuracy": self._attack or careful,
        }
        self._next = self._fallback or _of_more_steps(given, ball)
        if not self.model.optimizer.built:
            # What it has before the first step is to be kept, too.
            self.model.optimizer.build(self.model.trainable_variables)

    def on_train_batch_end(self, batch, logs=None):
        self._seen += 1
        if self._steps is not None and self._seen % self._steps == 0:
            if hasattr(self.model, "jax_state_sync"):
                # Keras keeps the variables elsewhere during an epoch.
                self.model.jax_state_sync()
            self._examine()

    def on_epoch_end(self, epoch, logs=None):
        self._examine()
        if logs is not None:
            logs.update(self._values)

    def on_train_end(self, logs=None):
        """Gives the defense its attack back."""
        if self.model.attack is not self._given:
            self.model.attack = self._given

    def _measured(self):
        return {
            name: evaluate(
                self.model,
                self._data,
                [attack],
                batch_size=self._batch_size,
                inputs=self.model.inputs,
                progress=False,
                adaptive=False,
                audit=False,
            ).robust_accuracy
            for name, attack in self._attacks.items()
        }

    def _examine(self):
        with set_aside(self.model) as averaging:
            try:
                self._values = self._measured()
            except ValueError:
                # Whatever else could be refused was, before the training.
                self._values = dict.fromkeys(self._attacks, math.nan)
            if collapsed(self._best, self._values, self._drop):
                self._alarm(averaging)
            elif self._values["pgd_accuracy"] >= self._best["pgd_accuracy"]:
                self._keep(averaging)

    def _keep(self, averaging=None):
        self._best = self._values
        if self._action == "warn":
            return
        self._kept = [ops.convert_to_numpy(v.value) for v in self._variables()]
        if averaging is not None:
            self._averages = averaging.state()

    def _variables(self):
        optimizer = self.model.optimizer
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        # Not `iterations`, which gradients that add up make another number.
        stay = {id(inner._learning_rate), id(inner._iterations)}
        stay.add(id(optimizer._iterations))
        mine = [v for v in optimizer.variables if id(v) not in stay]
        return [*undefended(self.model).variables, *mine]

    def _alarm(self, averaging):
        self._alarms += 1
        if self._action == "warn":
            self._warn("Training continues.")
            return
        for variable, value in zip(self._variables(), self._kept, strict=True):
            variable.assign(value)
        if averaging is not None:
            averaging.restore(self._averages)
        if self._action == "switch" and self._alarms == 1:
            self._warn(
                "The weights go back to the best measured, and training "
                f"continues against {self._next.label}."
            )
            self.model.attack = self._next
        else:
            self._warn(
                "The weights go back to the best measured, and training stops."
            )
            self.model.stop_training = True

    def _warn(self, consequence):
        if self._alarms == 1:
            best, now = self._best, self._values
            warnings.warn(
                "Catastrophic overfitting: the accuracy under PGD has fallen "
                f"from {best['pgd_accuracy']:.1%} to "
                f"{now['pgd_accuracy']:.1%}, that under FGSM is "
                f"{now['fgsm_accuracy']:.1%}. {consequence}",
                stacklevel=2,
            )


def collapsed(best, now, drop):
    """Whether PGD has come to succeed where FGSM has not.

    Args:
        best: The accuracies, by name, when that under PGD was the highest.
        now: The accuracies now.
        drop: By how much that under PGD must have fallen.
    """
    fallen = best["pgd_accuracy"] - now["pgd_accuracy"]
    beside = best["fgsm_accuracy"] - now["fgsm_accuracy"]
    return fallen > drop and fallen - beside > drop


def _of_more_steps(attack, ball):
    """The attack to continue with where an attack has been overcome."""
    if isinstance(attack, PGD):
        steps = max(_FALLBACK_STEPS, 2 * attack.steps)
        return dataclasses.replace(attack, steps=steps, step_size=None)
    return PGD(steps=_FALLBACK_STEPS, **ball)
