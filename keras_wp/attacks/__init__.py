"""Adversarial attacks: immutable objects, called `attack(model, x, y)`."""

from keras_wp.attacks.apgd import APGD
from keras_wp.attacks.base import Attack
from keras_wp.attacks.carlini_wagner import CarliniWagner
from keras_wp.attacks.deepfool import DeepFool
from keras_wp.attacks.fab import FAB
from keras_wp.attacks.in_turn import InTurn
from keras_wp.attacks.multi_target import MultiTarget
from keras_wp.attacks.named import AutoAttack, get
from keras_wp.attacks.pgd import FGSM, PGD
from keras_wp.attacks.square import Square

__all__ = [
    "APGD",
    "FAB",
    "FGSM",
    "PGD",
    "Attack",
    "AutoAttack",
    "CarliniWagner",
    "DeepFool",
    "InTurn",
    "MultiTarget",
    "Square",
    "get",
]
