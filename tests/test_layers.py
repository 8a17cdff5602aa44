import keras
import numpy as np
import pytest
from keras import ops
from processes import run_python

from keras_wp import RobustHead, SimplexRegularizer, simplex
from keras_wp.initializers import SimplexVertices

LOAD_KERAS = """
import sys
import keras, numpy as np
import keras_wp

model = keras.models.load_model(sys.argv[1])
x = np.load(sys.argv[2])
np.save(sys.argv[3], model.predict(x, verbose=0))
"""

SERVE_SAVED_MODEL = """
import sys
import numpy as np, tensorflow as tf

model = tf.saved_model.load(sys.argv[1])
np.save(sys.argv[3], model.serve(np.load(sys.argv[2])).numpy())
loaded = {name.partition(".")[0] for name in sys.modules}
print(sorted(loaded & {"keras_wp", "tensorflow"}))
"""


def test_a_head_made_untrainable_does_not_learn(rng):
    activation = keras.layers.PReLU(alpha_initializer="ones")
    head = RobustHead(3, activation=activation, trainable=False)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5), head])
    assert len(model.trainable_variables) == 2
    before = head.get_weights()
    x = rng.normal(size=(8, 4)).astype("float32")
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    model.fit(x, np.arange(8) % 3, verbose=0)
    for old, new in zip(before, head.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    head.trainable = True
    assert len(model.trainable_variables) == 4


def classifier(**arguments):
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16),
            keras.layers.BatchNormalization(momentum=0.5),
            RobustHead(4, **arguments),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


@pytest.fixture
def trained(rng):
    model = classifier(kernel_initializer=SimplexVertices(seed=2))
    x = rng.standard_normal((64, 8)).astype("float32")
    model.fit(x, rng.integers(0, 4, 64), epochs=2, verbose=0)
    return model, x


def test_logits_are_the_features_times_the_kernel(rng):
    head = RobustHead(5)
    x = rng.standard_normal((7, 12)).astype("float32")
    logits = ops.convert_to_numpy(head(x))
    kernel = ops.convert_to_numpy(head.kernel)
    np.testing.assert_allclose(logits, np.tanh(x) @ kernel, atol=1e-6)


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("relu", lambda x: np.maximum(x, 0)),
        (None, lambda x: x),
        (ops.square, np.square),
        (
            keras.layers.PReLU(keras.initializers.Constant(0.25)),
            lambda x: np.where(x > 0, x, 0.25 * x),
        ),
    ],
)
def test_any_activation_may_take_the_place_of_tanh(rng, activation, function):
    head = RobustHead(5, activation=activation)
    x = rng.standard_normal((7, 12)).astype("float32")
    logits = ops.convert_to_numpy(head(x))
    kernel = ops.convert_to_numpy(head.kernel)
    np.testing.assert_allclose(logits, function(x) @ kernel, atol=1e-6)


def test_activation_and_dense_are_the_two_halves_of_the_head(rng):
    head = RobustHead(5)
    head.build((None, 12))
    x = rng.standard_normal((7, 12)).astype("float32")
    halves = head.dense(head.activation(ops.convert_to_tensor(x)))
    np.testing.assert_allclose(
        ops.convert_to_numpy(halves), ops.convert_to_numpy(head(x)), atol=1e-7
    )


def test_the_only_weight_is_the_kernel():
    head = RobustHead(5)
    head.build((None, 12))
    assert [tuple(w.shape) for w in head.weights] == [(12, 5)]
    assert head.trainable_weights[0] is head.kernel


def test_output_shape_is_known_before_the_layer_is_built():
    head = RobustHead(5)
    assert head.compute_output_shape((None, 12)) == (None, 5)
    assert RobustHead(5)(keras.Input((3, 12))).shape == (None, 3, 5)


@pytest.mark.parametrize("nested", [False, True])
def test_penalty_is_counted_exactly_once(nested):
    head = RobustHead(5, s=0.2, alpha=7.0)
    model = keras.Sequential([keras.Input((12,)), head])
    if nested:
        inputs = keras.Input((12,))
        model = keras.Model(inputs, model(inputs))
    penalty = float(SimplexRegularizer(0.2, 7.0)(head.kernel))
    assert penalty > 0
    assert [float(loss) for loss in model.losses] == [penalty]


def test_loss_of_fit_is_cross_entropy_plus_one_penalty(rng):
    model = classifier()
    x, y = rng.standard_normal((32, 8)), rng.integers(0, 4, 32)
    loss = model.evaluate(x, y, verbose=0)
    entropy = model.loss(y, model.predict(x, verbose=0))
    penalty = SimplexRegularizer()(model.layers[-1].kernel)
    assert loss == pytest.approx(float(entropy) + float(penalty), rel=1e-5)


def test_frozen_head_is_not_penalized():
    model = classifier()
    model.layers[-1].trainable = False
    assert model.losses == []


def test_initializer_of_the_simplex_starts_at_the_ideal_angle():
    head = RobustHead(10, s=0.3, kernel_initializer=SimplexVertices(0.3))
    head.build((None, 64))
    assert head.min_angle() == pytest.approx(simplex.ideal_angle(10), abs=1e-6)
    assert float(head.losses[0]) == pytest.approx(0, abs=1e-5)


def test_training_widens_the_smallest_angle(rng):
    model = classifier()
    head = model.layers[-1]
    before = head.min_angle()
    assert before == simplex.min_angle(head.kernel)
    x = rng.standard_normal((256, 8))
    model.fit(x, rng.integers(0, 4, 256), epochs=5, verbose=0)
    assert before < head.min_angle() <= simplex.ideal_angle(4)


@pytest.mark.parametrize(
    ("policy", "dtype"),
    [("mixed_bfloat16", "bfloat16"), ("mixed_float16", "float16")],
)
def test_head_follows_the_dtype_policy(policy, dtype):
    keras.config.set_dtype_policy(policy)
    x = np.ones((2, 12), "float32")
    mixed, full = RobustHead(5), RobustHead(5, dtype="float32")
    assert keras.backend.standardize_dtype(mixed(x).dtype) == dtype
    assert keras.backend.standardize_dtype(full(x).dtype) == "float32"
    for head in (mixed, full):
        assert head.kernel.dtype == "float32"
        (penalty,) = head.losses
        assert keras.backend.standardize_dtype(penalty.dtype) == "float32"
        expected = SimplexRegularizer()(ops.convert_to_numpy(head.kernel))
        assert float(penalty) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize(
    "activation", ["relu", None, keras.layers.PReLU()], ids=str
)
def test_config_makes_an_equal_layer(activation):
    head = RobustHead(
        5,
        s=0.2,
        alpha=3.0,
        activation=activation,
        kernel_initializer=SimplexVertices(0.2, seed=1),
        name="robust",
        dtype="mixed_bfloat16",
        trainable=False,
    )
    head.build((None, 12))
    copy = keras.layers.deserialize(keras.layers.serialize(head))
    assert copy.get_config() == head.get_config()
    assert copy.name == "robust"
    assert copy.dtype_policy.name == "mixed_bfloat16"
    assert not copy.trainable
    np.testing.assert_array_equal(
        ops.convert_to_numpy(copy.kernel), ops.convert_to_numpy(head.kernel)
    )
    regularizer = copy.dense.kernel_regularizer
    assert regularizer.get_config() == {"s": 0.2, "alpha": 3.0}


def test_keras_file_loads_in_a_fresh_process(trained, tmp_path):
    model, x = trained
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    files = [tmp_path / name for name in ("model.keras", "x.npy", "y.npy")]
    done = run_python("-c", LOAD_KERAS, *files)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(
        np.load(files[2]), model.predict(x, verbose=0), atol=1e-6
    )


def test_model_with_a_layer_as_activation_loads_again(rng, tmp_path):
    model = classifier(activation=keras.layers.PReLU())
    x = rng.standard_normal((32, 8))
    model.fit(x, rng.integers(0, 4, 32), verbose=0)
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        copy.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6
    )


def test_saved_model_serves_without_this_package(trained, tmp_path, backend):
    if backend != "tensorflow":
        pytest.skip("a SavedModel is TensorFlow's")
    model, x = trained
    model.export(tmp_path / "served", verbose=False)
    np.save(tmp_path / "x.npy", x)
    files = [tmp_path / name for name in ("served", "x.npy", "y.npy")]
    done = run_python("-c", SERVE_SAVED_MODEL, *files)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['tensorflow']"
    np.testing.assert_allclose(
        np.load(files[2]), model.predict(x, verbose=0), atol=1e-6
    )
