"""What tells a model from another, and from what it was before."""

import types

import keras
import numpy as np
import pytest
from helpers import mixed_labels, plainly, random_images, tiny_cnn, to_numpy
from keras import ops

import keras_wp as kwp
from keras_wp.evaluation import fingerprint
from keras_wp.inspection.classifier import Classifier
from keras_wp.inspection.description import changes, describe

FACTOR = 100.0

FACTORS = {"all": 100.0}


class Config:
    def __init__(self, factor):
        self.factor = factor


class Holder(keras.layers.Layer):
    """Multiplies by what `read` finds in it."""

    factor_of_all = 100.0

    def __init__(self, read, **held):
        super().__init__()
        self.read = read
        for name, value in held.items():
            setattr(self, name, value)

    def call(self, inputs):
        return inputs * self.read(self)

    def get_config(self):
        raise NotImplementedError


class Outer(keras.layers.Layer):
    def __init__(self, inner):
        super().__init__()
        self.parts = {"inner": [inner]}

    def call(self, inputs):
        return self.parts["inner"][0](inputs)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.factor = 100.0
        self.small = keras.layers.Rescaling(1.0)
        self.large = keras.layers.Rescaling(100.0)
        self.active = self.large

    def build(self, shape):
        self.small.build(shape)
        self.large.build(shape)

    def call(self, inputs):
        return self.active(inputs) * self.factor / 100.0


def times_100(x):
    return 100.0 * x


def once(x):
    return x


def sequential(*layers):
    return keras.Sequential([keras.Input((3,)), *layers])


def holder(read, **held):
    layer = Holder(read, **held)
    return sequential(layer), layer


def public():
    model, layer = holder(lambda self: self.g, g=100.0)
    return model, lambda: setattr(layer, "g", 1.0)


def private():
    model, layer = holder(lambda self: self._g, _g=100.0)
    return model, lambda: setattr(layer, "_g", 1.0)


def flag():
    model, layer = holder(lambda self: 100.0 if self.big else 1.0, big=True)
    return model, lambda: setattr(layer, "big", False)


def pair():
    model, layer = holder(lambda self: self.g[1], g=(0.0, 100.0))
    return model, lambda: setattr(layer, "g", (0.0, 1.0))


def dictionary():
    model, layer = holder(lambda self: self.g["a"], g={"a": 100.0})
    return model, lambda: layer.g.update({"a": 1.0})


def array():
    model, layer = holder(
        lambda self: ops.convert_to_tensor(self.g),
        g=np.full(3, 100.0, np.float32),
    )
    return model, lambda: layer.g.fill(1.0)


def tensor():
    model, layer = holder(lambda self: self.g, g=ops.full((3,), 100.0))
    return model, lambda: setattr(layer, "g", ops.ones((3,)))


def function():
    model, layer = holder(lambda self: self.g(), g=lambda: 100.0)
    return model, lambda: setattr(layer, "g", lambda: 1.0)


def closure():
    factors = [100.0]
    model, _ = holder(lambda self: self.g(), g=lambda: factors[0])
    return model, lambda: factors.__setitem__(0, 1.0)


def plain_object():
    model, layer = holder(lambda self: self.g.factor, g=Config(100.0))
    return model, lambda: setattr(layer.g, "factor", 1.0)


def nested():
    inner = Holder(lambda self: self.g, g=100.0)
    return sequential(Outer(inner)), lambda: setattr(inner, "g", 1.0)


def hidden():
    """A layer in an object of which Keras knows nothing."""
    config = Config(keras.layers.Rescaling(100.0))
    model, _ = holder(lambda self: self.g.factor(1.0), g=config)
    return model, lambda: setattr(config.factor, "scale", 1.0)


def lambda_function():
    layer = keras.layers.Lambda(times_100)
    return sequential(layer), lambda: setattr(layer, "function", once)


def subclassed():
    model = Subclassed()
    return model, lambda: setattr(model, "factor", 1.0)


def swapped():
    model = Subclassed()
    return model, lambda: setattr(model, "active", model.small)


def normalization():
    layer = keras.layers.Normalization()
    layer.adapt(np.linspace(0, 0.01, 12, dtype=np.float32).reshape(4, 3))
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(4, 3)
    return sequential(layer), lambda: layer.adapt(values)


SEEN = [
    public,
    private,
    flag,
    pair,
    dictionary,
    array,
    tensor,
    function,
    closure,
    plain_object,
    nested,
    hidden,
    lambda_function,
    subclassed,
    swapped,
    normalization,
]


def compiled(model, x):
    classifier = Classifier(model)
    program = classifier.compile("key", lambda: classifier)
    return to_numpy(program(ops.convert_to_tensor(x)))


@pytest.mark.parametrize("member", SEEN, ids=lambda member: member.__name__)
def test_what_a_layer_has_been_given_is_seen(member):
    x = np.random.default_rng(0).uniform(1, 2, (2, 3)).astype(np.float32)
    model, change = member()
    before = compiled(model, x)
    np.testing.assert_allclose(before, to_numpy(model(x)), rtol=1e-6)
    told = describe(model)
    assert not changes(told, describe(model))
    change()
    after = to_numpy(model(x))
    assert np.abs(after - before).max() > 1
    np.testing.assert_allclose(compiled(model, x), after, rtol=1e-6)


def test_attributes_of_classes_and_of_modules_are_seen(monkeypatch):
    x = np.ones((2, 3), np.float32)
    of_class, _ = holder(lambda self: self.factor_of_all)
    of_module, _ = holder(lambda self: FACTOR)
    for model in (of_class, of_module):
        np.testing.assert_array_equal(compiled(model, x), 100)
    monkeypatch.setattr(Holder, "factor_of_all", 1.0)
    monkeypatch.setitem(globals(), "FACTOR", 1.0)
    for model in (of_class, of_module):
        np.testing.assert_array_equal(compiled(model, x), 1)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("count", [2, 5])
def test_what_nobody_can_see_shows_in_the_logits(given, count, monkeypatch):
    model, _ = holder(lambda self: FACTORS["all"])
    x = np.arange(3 * count, dtype=np.float32).reshape(count, 3)
    classifier = Classifier(model)

    def forward():
        program = classifier.compile(("forward", (3,)), lambda: classifier)
        return to_numpy(program(ops.convert_to_tensor(x)))

    def refreshed():
        return classifier.refresh(x, forward() if given else None)

    np.testing.assert_array_equal(forward(), 100 * x)
    if given or count == 2:
        assert not refreshed()
    monkeypatch.setitem(FACTORS, "all", 1.0)
    np.testing.assert_array_equal(forward(), 100 * x)
    assert refreshed()
    np.testing.assert_array_equal(forward(), x)
    refreshed()
    assert not refreshed()


def test_nothing_is_dropped_of_a_model_that_is_the_same():
    model, x = tiny_cnn(), random_images(4)
    classifier = Classifier(model)
    before = classifier.compile("key", lambda: classifier)
    assert not classifier.refresh(x)
    assert Classifier(model).compile("key", lambda: classifier) is before
    classifier.forget()
    assert Classifier(model).compile("key", lambda: classifier) is not before


def test_a_callable_has_nothing_to_drop():
    called = []

    def model(x):
        called.append(1)
        return ops.reshape(x, (-1, 36))

    assert not Classifier(model).refresh(random_images(2))
    assert not called


class Noise(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.seed = keras.random.SeedGenerator(0)

    def call(self, inputs):
        noise = keras.random.normal(ops.shape(inputs), seed=self.seed)
        return inputs + noise


def test_a_randomized_model_is_dropped_once_at_most():
    model, x = sequential(Noise()), np.ones((2, 3), np.float32)
    state = to_numpy(model.layers[0].seed.state.value)
    classifier = Classifier(model)
    found = [classifier.refresh(x) for _ in range(5)]
    assert sum(found) <= 1 and not found[-1]
    if keras.backend.backend() == "jax":
        # Elsewhere what is compiled draws from the model's own state.
        np.testing.assert_array_equal(model.layers[0].seed.state.value, state)


class Counting(keras.layers.Layer):
    """Keeps of each call that it was, and its inputs."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.last = None

    def call(self, inputs):
        self.calls += 1
        self.last = inputs
        return inputs


def test_what_changes_with_each_call_tells_nothing():
    model = sequential(Counting())
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    classifier = Classifier(model)
    classifier.refresh(x)
    before = classifier.compile("key", lambda: classifier)
    known = fingerprint.digest(classifier, x)
    model(x)
    assert classifier.compile("key", lambda: classifier) is before
    assert fingerprint.digest(classifier, x) == known


@pytest.mark.parametrize("kind", ["attribute", "subclass", "global"])
def test_an_evaluation_is_of_the_model_as_it_is(kind, monkeypatch):
    base, x = tiny_cnn(), random_images(40)
    y = mixed_labels(base, x)

    def made(factor):
        read = {
            "attribute": lambda self: self.g,
            "subclass": lambda self: self.g,
            "global": lambda self: FACTORS["all"],
        }
        layer = Holder(read[kind], g=factor)
        layers = [keras.Input((6, 6, 1)), base, layer]
        layers.append(keras.layers.Activation("tanh"))
        if kind == "subclass":

            class Model(keras.Model):
                def __init__(self):
                    super().__init__()
                    self.parts, self.g = [base], factor

                def call(self, x):
                    return ops.tanh(self.parts[0](x) * self.g)

            return Model(), None
        return keras.Sequential(layers), layer

    def robust(model):
        attack = kwp.attacks.PGD(eps=0.1, steps=5)
        report = plainly(model, (x, y), [attack])
        result = report.results[0]
        return result.robust, result.steps, result.zero_gradients

    monkeypatch.setitem(FACTORS, "all", 300.0)
    model, layer = made(300.0)
    before = robust(model)
    monkeypatch.setitem(FACTORS, "all", 0.5)
    if kind != "global":
        (layer or model).g = 0.5
    after, fresh = robust(model), robust(made(0.5)[0])
    for found, wanted in zip(after, fresh, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert (before[0] != after[0]).any()


HELD = {"factor": [1.0]}
made_up = types.ModuleType("made_up")
made_up.factor = 1.0
SPACE = types.SimpleNamespace(factor=1.0)


@pytest.mark.parametrize(
    "read, change",
    [
        (lambda x: x * HELD["factor"][0], lambda: HELD["factor"].append(2)),
        (lambda x: x * SPACE.factor, lambda: setattr(SPACE, "factor", 2.0)),
        (
            lambda x: x * made_up.factor,
            lambda: setattr(made_up, "factor", 2.0),
        ),
    ],
    ids=["dictionary", "namespace", "module"],
)
def test_what_a_function_reads_of_globals_tells_models_apart(read, change):
    classifier = Classifier(read)
    x = np.ones((1, 3), np.float32)
    before = fingerprint.digest(classifier, x)
    assert fingerprint.digest(classifier, x) == before
    change()
    assert fingerprint.digest(classifier, x) != before
