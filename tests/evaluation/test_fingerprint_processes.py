"""What tells models apart is the same in every process."""

import keras
import numpy as np
import pytest
from keras import ops
from processes import SUPPORT, run_python

from keras_wp.evaluation import fingerprint
from keras_wp.inspection.classifier import Classifier

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import keras
import numpy as np
from helpers import randomize
from keras import ops
from keras_wp.inspection.classifier import Classifier
from keras_wp.evaluation import fingerprint

[keras.layers.Dense(1) for _ in range(int(sys.argv[2]))]
factor = float(sys.argv[3])


class Times(keras.layers.Layer):
    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.given = {"b": factor, "a": {"one", "two", "three"}}
        self.scale = lambda x: x * factor
        self.unknown = object()
        self.seed = keras.random.SeedGenerator()
        self.dense = keras.layers.Dense(2)

    def call(self, inputs):
        return self.dense(self.scale(inputs))


inputs = keras.Input((3,))
x = keras.layers.Dropout(0.5)(Times(factor)(inputs))
x = ops.clip(x * 3.0, -1.0, 1.0) + keras.layers.Lambda(lambda x: 7.0 * x)(x)
model = keras.Model(inputs, x)
randomize(model)
noise = np.ones((1, 3), np.float32)
print(fingerprint.digest(Classifier(model), noise))
print(fingerprint.digest(Classifier(lambda x: factor * model(x)), noise))
"""


@pytest.mark.once
def test_a_model_is_the_same_in_another_process():

    def digests(*arguments):
        result = run_python("-c", SCRIPT, SUPPORT, *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout.split()

    one, same = digests(0, 2.0), digests(5, 2.0)
    assert len(one) == 2 and one == same
    assert not {*one} & {*digests(0, 3.0)}


def test_operations_of_a_functional_model_are_told_apart():
    x = np.zeros((1, 3), np.float32)

    def digest(make):
        inputs = keras.Input((3,))
        model = keras.Model(inputs, make(inputs))
        return fingerprint.digest(Classifier(model), x)

    makers = [
        lambda x: x * 1000.0,
        lambda x: x * 100.0,
        lambda x: x / 1000.0,
        lambda x: 1000.0 - x,
        lambda x: x - 1000.0,
        lambda x: ops.clip(x, -1, 1),
        lambda x: ops.clip(x, -2, 1),
        lambda x: ops.clip(x, -1, 1) * x,
        lambda x: ops.clip(x * x, -1, 1),
    ]
    found = [digest(make) for make in makers]
    assert len({*found}) == len(makers)
    assert found == [digest(make) for make in makers]
