"""Constants of whole graphs: random ones, and where nodes are easily lost."""

import hypothesis
import keras
import numpy as np
import pytest
from helpers import random_images, to_numpy
from hypothesis import strategies as st
from keras import ops
from slopes import float64_twin, jacobian_norms, lengths, sampled, steepest

from keras_wp import lipschitz
from keras_wp.certificates.graph import Graph

SHAPE = (4, 4, 2)


def bound_of(model, x):
    """The constant of a model, and what bounds its outputs."""
    graph = Graph(model, x)
    output = graph.anatomy.output
    return graph.constant(output), graph.bound(output, graph.lengths(x))


def constant_of(model, shape=(8,)):
    return bound_of(model, np.zeros((1, *shape), "float32"))[0]


class Twice(keras.layers.Layer):
    """A layer of other layers, which calls one of them twice."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = lipschitz.OrthogonalDense(8)

    def build(self, input_shape):
        self.inner.build(input_shape)

    def call(self, inputs):
        return self.inner(ops.tanh(self.inner(inputs)))


class Subclassed(keras.Model):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, inputs):
        return 3.0 * self.inner(inputs)


def test_a_shared_layer_counts_twice():
    layer = keras.layers.Dense(8, use_bias=False)
    inputs = keras.Input((8,))
    model = keras.Model(inputs, layer(layer(inputs)))
    layer.kernel.assign(2 * np.eye(8))
    assert constant_of(model) == pytest.approx(4.0)


def test_operations_sums_and_submodels_count():
    inputs = keras.Input((8,))
    inner = keras.Model(inputs, inputs * 3.0 + inputs)
    outer = keras.Sequential([keras.Input((8,)), inner, inner])
    assert constant_of(outer) == pytest.approx(16.0)
    assert constant_of(Subclassed(outer)) == pytest.approx(48.0)


def test_layers_within_layers_are_entered():
    inputs = keras.Input((8,))
    layer = Twice()
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: 2 * x)(inputs))
    model = keras.Model(inputs, layer(model(inputs)))
    expected = 2 * layer.inner.lipschitz_constant() ** 2
    assert constant_of(model) == pytest.approx(expected)


def node(choices):
    """One more tensor of a random graph."""
    return st.tuples(st.sampled_from(choices), st.integers(0, 10**6))


KINDS = [
    *("dense", "orthogonal", "shared", "shared", "conv", "conv-shared"),
    *("add", "subtract", "average", "scaled", "shifted", "concatenated"),
    *("max-min", "tanh", "gelu", "nested", "sequential", "pooled", "abs"),
]


def random_model(nodes):
    """A functional model of layers, operations, and models within it."""
    rng = np.random.default_rng(sum(seed for _, seed in nodes))
    inputs = keras.Input(SHAPE)
    tensors = [inputs]
    shared, convolution = keras.layers.Dense(4), lipschitz.AOLConv2D(4)
    small = keras.Input((4, 4, 4))
    nested = keras.Model(small, shared(small * 1.5) + small)
    listed = keras.Sequential([small, keras.layers.Dense(4), nested])
    first = keras.layers.Dense(4)
    tensors = [first(inputs)]
    for kind, seed in nodes:
        x = tensors[seed % len(tensors)]
        other = tensors[seed // 7 % len(tensors)]
        made = {
            "dense": lambda x, _: keras.layers.Dense(4)(x),
            "orthogonal": lambda x, _: lipschitz.OrthogonalDense(4)(x),
            "shared": lambda x, _: shared(x),
            "conv": lambda x, _: lipschitz.AOLConv2D(
                4, 3, "circular", kernel_initializer="glorot_normal"
            )(x),
            "conv-shared": lambda x, _: convolution(x),
            "add": lambda x, y: keras.layers.Add()([x, y]),
            "subtract": lambda x, y: x - y,
            "average": lambda x, y: keras.layers.Average()([x, y, x]),
            "scaled": lambda x, _: x * rng.uniform(-2, 2),
            "shifted": lambda x, _: x + rng.uniform(-2, 2),
            "concatenated": lambda x, y: keras.layers.Dense(4)(
                keras.layers.Concatenate()([x, y])
            ),
            "max-min": lambda x, _: lipschitz.MaxMin()(x),
            "tanh": lambda x, _: ops.tanh(x),
            "gelu": lambda x, _: keras.layers.Activation("gelu")(x),
            "nested": lambda x, _: nested(x),
            "sequential": lambda x, _: listed(x),
            "pooled": lambda x, _: keras.layers.MaxPooling2D(3, 1, "same")(x),
            "abs": lambda x, _: abs(x),
        }[kind](x, other)
        tensors.append(made)
    model = keras.Model(inputs, tensors[-1])
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dense) and layer.built:
            layer.bias.assign(rng.normal(size=layer.bias.shape))
    return model


@hypothesis.given(st.lists(node(KINDS), min_size=1, max_size=7))
@hypothesis.settings(max_examples=15)
def test_no_slope_of_a_random_graph_beats_its_constant(nodes):
    model = random_model(nodes)
    rng = np.random.default_rng(0)
    x = random_images(8, SHAPE, low=-1)
    constant, bound = bound_of(model, x)
    slopes = sampled(model, x, rng)
    assert slopes.max() <= constant * (1 + 1e-5)
    found = lengths(to_numpy(model(ops.convert_to_tensor(x))))
    assert (found <= bound.size * (1 + 1e-9)).all()


@pytest.mark.once
@hypothesis.given(st.lists(node(KINDS), min_size=1, max_size=7))
@hypothesis.settings(max_examples=12)
def test_no_jacobian_of_a_random_graph_beats_its_constant(nodes):
    model = random_model(nodes)
    x = random_images(4, SHAPE, low=-1)
    constant, bound = bound_of(model, x)
    twin = float64_twin(model)
    assert jacobian_norms(twin, x).max() <= constant * (1 + 1e-6)
    exact = to_numpy(twin(x.astype("float64")))
    found = to_numpy(model(ops.convert_to_tensor(x)))
    assert (lengths(found - exact) <= bound.error).all()


@pytest.mark.once
@pytest.mark.parametrize("tight", ["orthogonal", "conv"])
def test_a_constant_off_by_a_percent_is_caught(tight, monkeypatch):
    """The Jacobian of a tight network tells, so the tests above would."""
    inputs = keras.Input(SHAPE)
    x = lipschitz.MaxMin()(lipschitz.AOLConv2D(4)(inputs))
    x = keras.layers.Flatten()(x)
    x = lipschitz.OrthogonalDense(64)(x)
    model = keras.Model(inputs, x)
    images = random_images(16, SHAPE, low=-1)
    before, _ = bound_of(model, images)
    assert steepest(model, images) <= before * (1 + 1e-6)
    kind = {"orthogonal": 4, "conv": 1}[tight]
    layer = model.layers[kind]
    honest = layer.lipschitz_constant()
    monkeypatch.setattr(layer, "lipschitz_constant", lambda: honest / 1.01)
    assert steepest(model, images) > bound_of(model, images)[0] * 1.001


@pytest.mark.parametrize("offset", [0.5, 100.0])
def test_lengths_near_the_mean_image_are_close(offset, rng):
    """Though the bias is as long as the image, and takes it away."""
    inputs = keras.Input((40,))
    x = keras.layers.Rescaling(1.0, -offset)(inputs)
    model = keras.Model(inputs, lipschitz.OrthogonalDense(40)(x))
    images = offset + 1e-2 * rng.standard_normal((20, 40))
    images = images.astype("float32")
    _, bound = bound_of(model, images)
    found = np.linalg.norm(to_numpy(model(images)).astype(float), axis=-1)
    assert (found <= bound.size).all()
    assert (bound.size < 1.5 * found).all()
    # From zero, the lengths of image and bias would be added.
    assert (bound.size < 0.1 * lengths(images)).all()
