"""The peers: for each library, the works it can do, as functions of arrays.

Every entry maps clean images `(N, H, W, C)` and labels to adversarial images.
Libraries are imported when they are asked for, so that one which is missing
or broken costs nothing but its rows.
"""

import sys
import unittest.mock

import numpy as np
import torch

from benchmarks.torch_twin import from_torch, to_torch

EPS = 8 / 255
EPS_L2 = 0.5
STEP = 0.0031
CW_STEPS = 100
CW_SEARCHES = 9
TARGETS = 9


def _arrays(attack):
    """A function of torch's images and labels, as one of NumPy's."""

    def run(x, y):
        labels = torch.from_numpy(y.astype(np.int64))
        return from_torch(attack(to_torch(x), labels))

    return run


def foolbox_torch(model, module):
    import foolbox as fb

    wrapped = fb.PyTorchModel(module, bounds=(0, 1), device="cpu")

    def run(attack, eps):
        return _arrays(lambda x, y: attack(wrapped, x, y, epsilons=eps)[1])

    return {k: run(*v) for k, v in _foolbox_attacks(fb.attacks).items()}


def foolbox_tensorflow(model, module):
    import foolbox as fb
    import tensorflow as tf

    wrapped = fb.TensorFlowModel(
        lambda x: model(x, training=False), bounds=(0, 1), device="/CPU:0"
    )

    def run(attack, eps):
        def on_arrays(x, y):
            x, y = tf.constant(x), tf.constant(y.astype(np.int64))
            return attack(wrapped, x, y, epsilons=eps)[1].numpy()

        return on_arrays

    # Its eager C&W and DeepFool take minutes for what PyTorch does in one.
    slow = ("cw", "deepfool", "deepfool_l2")
    attacks = _foolbox_attacks(fb.attacks)
    return {k: run(*v) for k, v in attacks.items() if k not in slow}


def _foolbox_attacks(attacks):
    pgd = attacks.LinfProjectedGradientDescentAttack
    return {
        "fgsm": (attacks.LinfFastGradientAttack(), EPS),
        "pgd20": (pgd(steps=20, abs_stepsize=STEP), EPS),
        "pgd100": (pgd(steps=100, abs_stepsize=STEP), EPS),
        "deepfool": (attacks.LinfDeepFoolAttack(steps=50), None),
        "deepfool_l2": (attacks.L2DeepFoolAttack(steps=50), None),
        "cw": (
            attacks.L2CarliniWagnerAttack(
                binary_search_steps=CW_SEARCHES,
                steps=CW_STEPS,
                stepsize=0.01,
                initial_const=1e-3,
            ),
            None,
        ),
    }


def torchattacks_torch(model, module):
    import torchattacks as ta

    l2 = {"norm": "L2", "eps": EPS_L2}
    attacks = {
        "fgsm": ta.FGSM(module, eps=EPS),
        "pgd20": ta.PGD(module, eps=EPS, alpha=STEP, steps=20),
        "pgd100": ta.PGD(module, eps=EPS, alpha=STEP, steps=100),
        "deepfool_l2": ta.DeepFool(module, steps=50),
        "apgd_ce": ta.APGD(module, eps=EPS, steps=100),
        "apgd_dlr": ta.APGD(module, eps=EPS, steps=100, loss="dlr"),
        "apgd_t": ta.APGDT(module, eps=EPS, steps=100),
        "apgd_l2": ta.APGD(module, steps=100, **l2),
        "square": ta.Square(module, eps=EPS, resc_schedule=False),
        "square_l2": ta.Square(module, resc_schedule=False, **l2),
    }
    return {k: _arrays(v) for k, v in attacks.items()}


def adv_lib_torch(model, module):
    # Its attacks need neither, but its import asks for both.
    for name in ("visdom", "torchvision", "torchvision.models"):
        sys.modules.setdefault(name, unittest.mock.MagicMock())
    from adv_lib import attacks

    pgd = {"ε": EPS, "absolute_step_size": STEP}
    inf = float("inf")
    calls = {
        "pgd20": (attacks.pgd_linf, {"steps": 20, **pgd}),
        "pgd100": (attacks.pgd_linf, {"steps": 100, **pgd}),
        "deepfool": (attacks.df, {"steps": 50, "norm": inf}),
        "deepfool_l2": (attacks.df, {"steps": 50, "norm": 2}),
        "apgd_ce": (
            attacks.apgd,
            {"eps": EPS, "norm": inf, "loss_function": "ce"},
        ),
        "apgd_dlr": (attacks.apgd, {"eps": EPS, "norm": inf}),
        "apgd_t": (attacks.apgd_targeted, {"eps": EPS, "norm": inf}),
        "apgd_l2": (
            attacks.apgd,
            {"eps": EPS_L2, "norm": 2, "loss_function": "ce"},
        ),
        "fab_t": (
            attacks.fab,
            {"norm": inf, "restarts": 9, "targeted_restarts": True},
        ),
        "fab_l2": (
            attacks.fab,
            {"norm": 2, "restarts": 9, "targeted_restarts": True},
        ),
        "cw": (
            attacks.carlini_wagner_l2,
            {
                "binary_search_steps": CW_SEARCHES,
                "max_iterations": CW_STEPS,
            },
        ),
    }

    def run(function, settings):
        return _arrays(lambda x, y: function(module, x, y, **settings))

    return {k: run(*v) for k, v in calls.items()}


def auto_attack_torch(model, module):
    from pyautoattack import AutoAttack

    def suite(norm, eps, attacks=None):
        def run(x, y):
            runner = AutoAttack(
                module,
                norm=norm,
                eps=eps,
                seed=0,
                attacks=attacks,
                version="custom" if attacks else "standard",
            )
            runner.apgd.n_restarts = runner.fab.n_restarts = 1
            runner.apgd_targeted.n_target_classes = TARGETS
            runner.fab.n_target_classes = TARGETS
            x_adv, _ = runner.run_standard_evaluation(x, y, batch_size=64)
            return x_adv

        return _arrays(run)

    def nearest(norm):
        """FAB-T with each target, as adv-lib and ours.

        Its own loop leaves an image as soon as a perturbation within the
        budget is found, and does not look for a nearer one.
        """
        runner = AutoAttack(module, norm=norm, eps=1.0, seed=0)
        order = {"Linf": float("inf"), "L2": 2}[norm]

        def run(x, y):
            best, least = x.clone(), torch.full((len(x),), float("inf"))
            for rank in range(2, 2 + TARGETS):
                runner.fab.target_class = rank
                x_adv = runner.fab.attack_single_run(
                    x, y, use_rand_start=False, is_targeted=True
                )
                delta = (x_adv - x).flatten(1)
                distance = torch.linalg.vector_norm(delta, order, dim=1)
                # An image without success comes back as it was.
                nearer = (distance > 0) & (distance < least)
                best[nearer], least[nearer] = x_adv[nearer], distance[nearer]
            return best

        return _arrays(run)

    return {
        "apgd_ce": suite("Linf", EPS, ["apgd-ce"]),
        "apgd_dlr": suite("Linf", EPS, ["apgd-dlr"]),
        "apgd_t": suite("Linf", EPS, ["apgd-t"]),
        "apgd_l2": suite("L2", EPS_L2, ["apgd-ce"]),
        "fab_t": nearest("Linf"),
        "fab_l2": nearest("L2"),
        "square": suite("Linf", EPS, ["square"]),
        "square_l2": suite("L2", EPS_L2, ["square"]),
        "autoattack": suite("Linf", EPS),
    }


def cleverhans_torch(model, module):
    from cleverhans.torch.attacks.carlini_wagner_l2 import carlini_wagner_l2
    from cleverhans.torch.attacks.fast_gradient_method import (
        fast_gradient_method,
    )
    from cleverhans.torch.attacks.projected_gradient_descent import (
        projected_gradient_descent,
    )

    def pgd(steps):
        return lambda x, y: projected_gradient_descent(
            module, x, EPS, STEP, steps, np.inf, 0, 1, y, sanity_checks=False
        )

    attacks = {
        "fgsm": lambda x, y: fast_gradient_method(
            module, x, EPS, np.inf, 0, 1, y
        ),
        "pgd20": pgd(20),
        "pgd100": pgd(100),
        "cw": lambda x, y: carlini_wagner_l2(
            module,
            x,
            10,
            y=y,
            lr=0.01,
            binary_search_steps=CW_SEARCHES,
            max_iterations=CW_STEPS,
            initial_const=1e-3,
        ),
    }
    return {k: _arrays(v) for k, v in attacks.items()}


def art_torch(model, module):
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier

    estimator = PyTorchClassifier(
        module,
        torch.nn.CrossEntropyLoss(),
        input_shape=(3, 32, 32),
        nb_classes=10,
        clip_values=(0, 1),
        device_type="cpu",
    )

    def pgd(steps):
        return evasion.ProjectedGradientDescent(
            estimator,
            eps=EPS,
            eps_step=STEP,
            max_iter=steps,
            num_random_init=1,
            batch_size=128,
            verbose=False,
        )

    attacks = {
        "fgsm": evasion.FastGradientMethod(estimator, eps=EPS, batch_size=128),
        "pgd20": pgd(20),
        "pgd100": pgd(100),
    }

    def run(attack):
        def on_arrays(x, y):
            x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
            x_adv = attack.generate(x, y.astype(np.int64))
            return np.ascontiguousarray(x_adv.transpose(0, 2, 3, 1))

        return on_arrays

    return {k: run(v) for k, v in attacks.items()}


# In the order of the table; each with the distribution it comes from.
PEERS = {
    "foolbox (PyTorch)": ("foolbox", foolbox_torch),
    "foolbox (TensorFlow)": ("foolbox", foolbox_tensorflow),
    "torchattacks": ("torchattacks", torchattacks_torch),
    "auto-attack": ("pyautoattack", auto_attack_torch),
    "adv-lib": ("adv-lib", adv_lib_torch),
    "cleverhans (PyTorch)": ("cleverhans", cleverhans_torch),
    "ART (PyTorch)": ("adversarial-robustness-toolbox", art_torch),
}
