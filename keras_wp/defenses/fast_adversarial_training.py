"""Fast adversarial training: N-FGSM.

Source: de Jorge et al., "Make some noise: reliable and efficient single-step
adversarial training" (NeurIPS 2022).
"""

import dataclasses

import keras

from keras_wp import _noise, norms
from keras_wp._checks import check_not_negative, check_positive
from keras_wp.attacks.pgd import GradientAscent
from keras_wp.defenses.adversarial_training import AdversarialTraining


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class NoisyFGSM(GradientAscent):
    """One step from a noisy image, which may leave the ball.

    It serves training, not evaluation: what it returns may lie at a distance
    of `noise * eps + step_size`.

    Args:
        eps: As for the defense.
        step_size: As for the defense.
        noise: As for the defense.
    """

    step_size: float | None = None
    noise: float = 2.0

    def __post_init__(self):
        super().__post_init__()
        if self.step_size is not None:
            check_positive(step_size=self.step_size)
        check_not_negative(noise=self.noise)

    @property
    def default_name(self):
        return self._called("N-FGSM")

    @property
    def updates(self):
        return 1

    def init(self, problem, run):
        if not self.noise:
            return super().init(problem, run)
        shape = tuple(problem.x.shape[1:])
        keys = _noise.fold_in(problem.keys, run)
        radius = self.noise * self.eps
        start = norms.get(self.norm).sample(keys, shape, radius)
        return {"x_adv": problem.clip(problem.x + start)}

    def step(self, problem, state):
        x = state["x_adv"]
        _, gradient, logits = problem.value_and_grad(
            self._objective(problem), x
        )
        step_size = self.step_size or self.eps
        moved = x + step_size * norms.get(self.norm).steepest(gradient)
        return {**state, "x_adv": problem.clip(moved)}, (x, logits)


@keras.saving.register_keras_serializable(package="keras_wp")
class FastAdversarialTraining(AdversarialTraining):
    """Adversarial training by one step from a noisy image (N-FGSM).

    The loss is the compiled one, `L(y, f(x_adv))`, plus the model's own
    penalties, with

        x_noisy = clip(x + U(-noise * eps, noise * eps))
        x_adv = clip(x_noisy + step_size * sign(grad L_ce(y, f(x_noisy))))

    where `clip` is to the bounds of the pixels alone: nothing is projected to
    the ball of radius `eps`, so that `x_adv` may lie as far as `noise * eps +
    step_size` from `x`. A training step costs one gradient of the images
    more than plain training.

    One step without noise (`noise=0`, FGSM) is prone to catastrophic
    overfitting: the model resists that one step, and nothing else any more.
    Noise makes this rarer, and does not exclude it:
    `keras_wp.callbacks.CatastrophicOverfitting` sees it, and goes back.

    The authors' settings, of all sets and networks with few exceptions:
    `noise=2` and a step of `eps`, up to 16/255 on CIFAR-10; `noise=4` at
    16/255 with a wide network, `noise=3` at 12/255 on SVHN.

    In the authors' code the gradient is taken in training mode, where it
    moves the statistics of `BatchNormalization`; here in inference mode, as
    by every defense.

    Args:
        model: A Keras model that maps images within the bounds to logits
            `(N, K)`; see `Defense`.
        eps: Radius of the ball in which the model is to be robust, above 0,
            in the units of the images.
        step_size: Length of the step, above 0. Defaults to `eps`.
        noise: Largest noise, at least 0, as a multiple of `eps`.
        norm: `"linf"`, as in the paper; or `"l2"`, where the noise is uniform
            in the ball of radius `noise * eps`, and the step is along the
            gradient.
        bounds: Lowest and highest value of a pixel.
        name: Name of the defense.
        inputs: See `Defense`.

    Raises:
        ValueError: If an argument is not as described.

    Source: de Jorge et al., NeurIPS 2022, and the authors' code.

    Example:

    >>> defense = keras_wp.defenses.FastAdversarialTraining(model, eps=8 / 255)
    >>> defense.compile("adam", metrics=["accuracy"])
    >>> history = defense.fit(x_train, y_train, batch_size=128, epochs=10)
    """

    def __init__(
        self,
        model,
        eps,
        step_size=None,
        noise=2.0,
        *,
        norm="linf",
        bounds=(0.0, 1.0),
        name=None,
        inputs=None,
    ):
        attack = NoisyFGSM(
            eps=eps,
            step_size=step_size,
            noise=noise,
            norm=norm,
            bounds=bounds,
        )
        super().__init__(model, attack, name=name, inputs=inputs)
        self._settings = {
            "eps": float(eps),
            "step_size": None if step_size is None else float(step_size),
            "noise": float(noise),
            "norm": norm,
            "bounds": tuple(map(float, bounds)),
        }

    def get_config(self):
        """The arguments that make an equal defense."""
        config = super().get_config()
        del config["attack"]
        return {**config, **self._settings}
