"""How robust a model is: the worst case over attacks, image by image."""

from keras_wp.evaluation.evaluate import evaluate
from keras_wp.evaluation.report import AttackResult, Report

__all__ = ["AttackResult", "Report", "evaluate"]
