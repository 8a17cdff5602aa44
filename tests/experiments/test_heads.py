"""The variants of the robust head that examples train."""

import keras
import numpy as np
import pytest
from helpers import plainly, random_images, randomize, to_numpy
from keras import ops

import keras_wp as kwp
from keras_wp import simplex
from keras_wp.attacks import adaptive
from keras_wp.experiments import heads
from keras_wp.inspection import features
from keras_wp.inspection.classifier import Classifier

pytestmark = pytest.mark.once


SHAPE, CLASSES, UNITS = (16, 16, 1), 4, 8
each_variant = pytest.mark.parametrize("name", list(heads.VARIANTS))


def network(name, **given):
    arguments = {"activation": "tanh", "s": 0.1, "alpha": 100.0, **given}
    return heads.build(
        kwp.models.small_cnn,
        name,
        input_shape=SHAPE,
        num_classes=CLASSES,
        widths=(4, 4, 4, 4),
        dense=(UNITS, UNITS),
        **arguments,
    )


def penalties(layer, inputs):
    """What a layer adds to the loss of training."""
    layer(inputs, training=True)
    return [float(loss) for loss in layer.losses]


@pytest.mark.once
@each_variant
def test_variant_comes_back_from_its_file(name, tmp_path):
    model = randomize(network(name))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = random_images(5, SHAPE)
    np.testing.assert_array_equal(to_numpy(loaded(x)), to_numpy(model(x)))
    for each in (model, loaded):
        each(x, training=True)
    losses = [list(map(float, m.losses)) for m in (model, loaded)]
    assert losses[0] == losses[1]
    trained = [len(m.trainable_variables) for m in (model, loaded)]
    assert trained[0] == trained[1]


@pytest.mark.once
@each_variant
def test_attacks_find_their_way_into_a_variant(name):
    model = network(name)
    classifier = Classifier(model)
    x = random_images(3, SHAPE)
    opened, cut = classifier.open(x), features.cut(model)
    assert not opened.why
    found = [cut.classify(cut.features(x))]
    # Features of one length do not level off, and need no surrogate.
    assert (opened.last.kind == "saturating") != name.startswith("sphere")
    if opened.last.kind == "saturating":
        for surrogate in adaptive.OF_LAST:
            surrogate.prepare(classifier, x)
            found.append(classifier.through(surrogate)(x))
    for logits in found:
        np.testing.assert_allclose(
            to_numpy(logits), to_numpy(model(x)), rtol=1e-5, atol=1e-5
        )
    assert cut.centers()[0].shape == (CLASSES, UNITS)


@pytest.mark.parametrize(
    "name",
    [
        # It has a weight that is not trained, and a callback that sets it.
        "rising",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in heads.VARIANTS
            if name != "rising"
        ),
    ],
)
def test_variant_learns_under_attack(name):
    model = network(name)
    x, y = random_images(4, SHAPE), np.array([0, 1, 2, 3])
    before = [to_numpy(w) for w in model.trainable_variables]
    defense = kwp.defenses.AdversarialTraining(
        model, kwp.attacks.PGD(eps=0.1, steps=1)
    )
    # On TensorFlow XLA would take longer; JAX has nothing else but eager calls.
    jit = keras.backend.backend() == "jax"
    defense.compile("adam", jit_compile=jit)
    history = defense.fit(
        x,
        y,
        epochs=2,
        batch_size=4,
        callbacks=heads.callbacks(model, 2),
        verbose=0,
    )
    assert np.isfinite(history.history["loss"]).all()
    after = [to_numpy(w) for w in model.trainable_variables]
    for old, new in zip(before, after, strict=True):
        assert not np.array_equal(old, new)


@pytest.mark.once
@pytest.mark.parametrize(
    "name, shares", [("rising", [0, 0.5, 1]), ("falling", [1, 0.5, 0])]
)
def test_penalty_is_annealed_epoch_by_epoch(name, shares):
    model = network(name)
    head = model.get_layer("head")
    seen = []
    see = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: seen.append(float(to_numpy(head.share)))
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    x, y = random_images(4, SHAPE), np.array([0, 1, 2, 3])
    callbacks = [*heads.callbacks(model, 3), see]
    model.fit(x, y, epochs=3, callbacks=callbacks, verbose=0)
    assert seen == shares
    head.anneal(0.25)
    share = 0.25 if name == "rising" else 0.75
    expected = share * float(kwp.SimplexRegularizer()(head.kernel))
    features = ops.ones((2, UNITS))
    assert penalties(head, features) == pytest.approx([expected])
    head(features, training=False)
    assert head.losses == []


@pytest.mark.once
def test_a_network_that_cannot_be_is_one_sentence():
    with pytest.raises(SystemExit) as error:
        network("robust", s=0.0)
    assert str(error.value).startswith("`s` must be a finite number")


def test_other_variants_need_no_callback():
    assert heads.callbacks(network("sphere"), 3) == []


@pytest.mark.once
def test_squared_penalty_is_by_its_definition(rng):
    kernel = rng.normal(0, 0.1, (UNITS, CLASSES)).astype("float32")
    sigma = simplex.gram(CLASSES, 0.1)
    distance = np.linalg.norm(kernel.T.astype(float) @ kernel - sigma)
    expected = 7 * distance**2 / np.linalg.norm(sigma)
    found = float(heads.SquaredSimplex(0.1, 7)(ops.convert_to_tensor(kernel)))
    assert found == pytest.approx(expected, rel=1e-4)
    head = network("squared", alpha=7.0).get_layer("head")
    head.dense.kernel.assign(kernel)
    assert [float(loss) for loss in head.losses] == pytest.approx([found])


def test_limit_penalizes_what_is_beyond_it():
    inputs = ops.convert_to_tensor([[1.0, -5.0], [3.5, 0.0]])
    layer = heads.Limit(limit=3.0, weight=2.0)
    assert penalties(layer, inputs) == pytest.approx([2 * (4 + 0.25) / 4])
    np.testing.assert_array_equal(to_numpy(layer(inputs)), to_numpy(inputs))
    assert layer.losses == []


@pytest.mark.once
def test_sphere_gives_features_one_length(rng):
    inputs = rng.normal(size=(5, UNITS)).astype("float32")
    found = to_numpy(heads.Sphere(150.0)(inputs))
    lengths = np.linalg.norm(inputs, axis=1, keepdims=True)
    np.testing.assert_allclose(found, 150 * inputs / lengths, rtol=1e-5)
    zeros = to_numpy(heads.Sphere(150.0)(np.zeros((1, UNITS), "float32")))
    np.testing.assert_array_equal(zeros, 0)


@pytest.mark.once
def test_logits_on_the_sphere_are_of_the_scale_of_their_source():
    model = network("sphere", s=0.5)
    head = model.get_layer("head")
    vertices = simplex.vertices(CLASSES, UNITS, 0.5).T.astype("float32")
    head.dense.kernel.assign(vertices)
    logits = to_numpy(head(vertices.T))
    np.testing.assert_allclose(np.diag(logits), 15, rtol=1e-5)


@pytest.mark.once
@pytest.mark.parametrize(
    "name, learned", [("sphere", False), ("sphere-learned", True)]
)
def test_length_of_the_features_is_learned_if_asked_for(name, learned):
    paths = [v.path for v in network(name).trainable_variables]
    assert any("factor" in path for path in paths) == learned


@pytest.mark.once
@pytest.mark.parametrize("name", ["robust", "vertices"])
def test_leaky_relu_has_the_slope_of_the_authors(name):
    model = network(name, activation="leaky_relu")
    cut = features.cut(model)
    values = to_numpy(cut.features(random_images(20, SHAPE)))
    x = random_images(20, SHAPE)
    opened = Classifier(model).open(x)
    before = to_numpy(opened.around(opened.last)[0](x))
    np.testing.assert_allclose(
        values, np.where(before < 0, 0.01 * before, before), rtol=1e-5
    )


@pytest.mark.once
def test_class_weights_may_start_at_the_vertices():
    head = network("vertices").get_layer("head")
    assert head.trainable_variables == [head.kernel]
    ideal = simplex.ideal_angle(CLASSES)
    assert head.min_angle() == pytest.approx(ideal, abs=1e-4)


@pytest.mark.once
def test_frozen_class_weights_are_the_best_there_are():
    model = network("frozen")
    head = model.get_layer("head")
    assert all(v is not head.kernel for v in model.trainable_variables)
    ideal = simplex.ideal_angle(CLASSES)
    assert head.min_angle() == pytest.approx(ideal, abs=1e-4)


@pytest.mark.once
def test_last_normalization_learns_no_scale_or_is_not_there():
    def norms(name):
        kind = keras.layers.BatchNormalization
        return [m for m in network(name).layers if isinstance(m, kind)]

    assert len(norms("robust")) == len(norms("fixed-norm")) == 6
    assert [norm.scale for norm in norms("fixed-norm")] == [True] * 5 + [False]
    assert len(norms("no-norm")) == 5


@pytest.mark.once
def test_heads_of_the_package_are_left_to_it():
    model = network("robust", s=0.2)
    head = model.get_layer("head")
    assert type(head) is kwp.RobustHead
    assert (head.s, head.alpha) == (0.2, 100.0)


@pytest.mark.once
def test_variant_is_evaluated_adaptively():
    data = random_images(4, SHAPE), np.array([0, 1, 2, 3])
    model = network("sphere-learned")
    logits = to_numpy(model(data[0]))
    report = plainly(
        model,
        (data[0], logits.argmax(-1)),
        [kwp.attacks.FGSM(eps=1e-3)],
        adaptive=True,
        progress=False,
    )
    assert report["adaptive"].attacked.any()
