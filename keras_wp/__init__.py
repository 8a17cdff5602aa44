"""Adversarial robustness for Keras 3: a robust head, and the truth about it."""

from keras_wp import _startup as _startup  # Before what it keeps quiet.
from keras_wp._version import __version__ as __version__

if _startup.deferred:  # A command that is yet to be understood.
    globals()["__getattr__"] = _startup.load_for
else:
    from keras_wp import attacks as attacks
    from keras_wp import augmentation as augmentation
    from keras_wp import callbacks as callbacks
    from keras_wp import cluster as cluster
    from keras_wp import convert as convert
    from keras_wp import datasets as datasets
    from keras_wp import defenses as defenses
    from keras_wp import initializers as initializers
    from keras_wp import layers as layers
    from keras_wp import lipschitz as lipschitz
    from keras_wp import losses as losses
    from keras_wp import metrics as metrics
    from keras_wp import models as models
    from keras_wp import norms as norms
    from keras_wp import objectives as objectives
    from keras_wp import recipes as recipes
    from keras_wp import simplex as simplex
    from keras_wp import smoothing as smoothing
    from keras_wp.attacks.surrogate import Surrogate as Surrogate
    from keras_wp.cluster import merge as merge
    from keras_wp.evaluation import AttackResult as AttackResult
    from keras_wp.evaluation import Certificate as Certificate
    from keras_wp.evaluation import Comparison as Comparison
    from keras_wp.evaluation import Finding as Finding
    from keras_wp.evaluation import Leaderboard as Leaderboard
    from keras_wp.evaluation import Report as Report
    from keras_wp.evaluation import audit as audit
    from keras_wp.evaluation import certify as certify
    from keras_wp.evaluation import compare as compare
    from keras_wp.evaluation import evaluate as evaluate
    from keras_wp.evaluation import head_geometry as head_geometry
    from keras_wp.inputs import Inputs as Inputs
    from keras_wp.layers import RobustHead as RobustHead
    from keras_wp.recipes import robustify as robustify
    from keras_wp.regularizers import SimplexRegularizer as SimplexRegularizer
