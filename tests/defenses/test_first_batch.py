"""What `fit` is given is looked at before a step is taken."""

import keras
import numpy as np
import pytest
from helpers import linear_model, message_of, random_images, to_numpy
from keras import ops
from trained import CLASSES, DEFENSES, SHAPE, SHIFT, Shift, X, Y, compiled

import keras_wp
from keras_wp import attacks
from keras_wp.defenses import AWP, MART, TRADES, AdversarialTraining

pytestmark = pytest.mark.once


KERNEL = np.random.default_rng(0).normal(size=(*SHAPE, CLASSES))
EYE = np.eye(CLASSES)


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self._pair = x, y

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self._pair


def generator(x, y):
    while True:
        yield x, y


def dataset(x, y):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(len(x))


def tensors(x, y):
    return keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y)


FORMS = {
    "arrays": lambda x, y: (x, y),
    "tensors": tensors,
    "dataset": lambda x, y: (dataset(x, y),),
    "sequence": lambda x, y: (Batches(x, y),),
    "generator": lambda x, y: (generator(x, y),),
}


def linear():
    return linear_model(KERNEL.astype(np.float32))


def fit(defense, form, x, y):
    data = FORMS[form](x, y)
    steps = 1 if form == "generator" else None
    return defense.fit(
        *data, verbose=0, shuffle=False, steps_per_epoch=steps
    ).history


def unmoved(defense):
    return np.array_equal(
        to_numpy(defense.model.layers[-1].kernel),
        KERNEL.reshape(-1, CLASSES).astype(np.float32),
    )


OUTSIDE = "Images must lie within the bounds (0.0, 1.0). Received: values from "
UNKNOWN = (
    f"Labels must lie in [0, {CLASSES}), as the model has {CLASSES} classes. "
    "Received: labels from "
)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "x, y, told",
    [
        (255 * X, Y, OUTSIDE),
        (X - 0.5, Y, OUTSIDE),
        (X, Y + 1, UNKNOWN),
        (X, Y - 1, UNKNOWN),
        (
            X,
            0.9 * EYE[Y] + 0.1 / CLASSES,
            f"Labels must be integers of the shape ({len(Y)},). Received: ",
        ),
        (X, Y + 0.5, "Labels must be integers. Received: dtype float"),
        (
            np.repeat(X, 2, axis=1),
            Y,
            f"The model takes images of the shape {SHAPE}. Received: ",
        ),
        (
            (255 * X).astype(np.uint8),
            Y,
            "Images must be floating-point numbers within the bounds "
            "(0.0, 1.0). Received: dtype uint8 with values from "
            f"{int(255 * X.min())} to {int(255 * X.max())} (up to 255? then "
            "inputs=keras_wp.Inputs(bounds=(0, 255)))",
        ),
        (np.where(X > 0.5, np.nan, X), Y, "Images must be finite"),
    ],
)
def test_unsound_data_are_refused_before_a_step(form, x, y, told):
    defense = compiled(MART(linear(), SHIFT), keras.optimizers.SGD(1.0))
    assert message_of(fit, defense, form, x, y).startswith(told)
    assert unmoved(defense)


@pytest.mark.once
def test_an_epoch_ends():
    endless = keras_wp.datasets.batches(X, Y, 4, seed=0)
    told = message_of(compiled(MART(linear(), SHIFT)).fit, endless)
    assert told.startswith("Argument `steps_per_epoch` must be given where")


@pytest.mark.once
def test_a_generator_loses_no_batch():
    parts = [(X[:3], Y[:3]), (X[3:5], Y[3:5]), (X[5:], Y[5:])]
    losses = [
        eager(MART(linear(), SHIFT))
        .fit(
            (part for part in some),
            steps_per_epoch=len(some),
            shuffle=False,
            verbose=0,
        )
        .history["loss"]
        for some in (parts, parts[:1], parts[1:2], parts[2:])
    ]
    whole, first, second, third = np.ravel(losses)
    mean = (3 * first + 2 * second + 2 * third) / 7
    np.testing.assert_allclose(whole, mean, rtol=1e-5)


@pytest.mark.parametrize("form", ["dataset", "generator", "sequence"])
def test_validation_data_are_looked_at_too(form):
    defense = compiled(MART(linear(), SHIFT), keras.optimizers.SGD(1.0))
    for others in ((255 * X, Y), *FORMS[form](255 * X, Y)):
        message = message_of(
            defense.fit, X, Y, validation_data=others, verbose=0
        )
        assert message.startswith(OUTSIDE)
    assert unmoved(defense)
    others = FORMS[form](X, Y)[0]
    history = defense.fit(
        X, Y, validation_data=others, validation_steps=1, verbose=0
    ).history
    assert np.isfinite(history["val_loss"]).all()


def test_a_batch_by_hand_is_looked_at_too():
    defense = compiled(MART(linear(), SHIFT), keras.optimizers.SGD(1.0))
    message = message_of(defense.train_on_batch, 255 * X, Y)
    assert message.startswith(OUTSIDE)
    assert unmoved(defense)


def eager(defense, loss=None, **arguments):
    """Without a graph, which takes longer to make than to run."""
    defense.compile(
        keras.optimizers.SGD(0.0), loss, run_eagerly=True, **arguments
    )
    return defense


@pytest.mark.parametrize(
    "kind, form, make",
    [(kind, "arrays", eager) for kind in DEFENSES]
    + [(MART, form, eager) for form in ("tensors", "sequence", "generator")]
    + [(MART, "dataset", compiled)],
)
def test_labels_may_be_a_column_or_one_hot(kind, form, make):
    losses = [
        fit(make(kind(linear(), SHIFT)), form, X, y)["loss"]
        for y in (Y, Y[:, None], EYE[Y].astype(np.float32))
    ]
    np.testing.assert_allclose(losses, losses[0][0], rtol=1e-5)


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("kind", [AdversarialTraining, TRADES])
def test_a_loss_and_metrics_may_be_of_one_hot_labels(kind, one_hot):
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    metric = keras.metrics.CategoricalAccuracy(name="accuracy")
    y = EYE[Y].astype(np.float32) if one_hot else Y
    wanted, *found = (
        eager(kind(linear(), SHIFT), *arguments, metrics=metrics)
        .fit(X, labels, validation_data=(X, labels), verbose=0)
        .history
        for labels, arguments, metrics in (
            (Y, (), ["accuracy"]),
            (y, (loss,), ["accuracy"]),
            (y, (loss,), [metric]),
        )
    )
    for history in found:
        assert history.keys() == wanted.keys()
        for name, value in wanted.items():
            np.testing.assert_allclose(history[name], value, rtol=1e-5)


class Own(keras.losses.Loss):
    """The cross-entropy, of one-hot labels."""

    def call(self, y_true, y_pred):
        return -ops.sum(y_true * ops.log_softmax(y_pred), axis=-1)


def own_metric(y_true, y_pred):
    return ops.sum(y_true * y_pred, axis=-1)


SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
# As many images as classes: numbers would pass for a row of one-hot labels.
FEW, NUMBERS = X[:CLASSES], Y[:CLASSES][::-1]
ONE_HOT = EYE[NUMBERS].astype(np.float32)


def plain(x, y, loss, metrics=()):
    model = linear()
    model.compile(loss=loss, metrics=list(metrics), run_eagerly=True)
    return model.evaluate(x, y, verbose=0, return_dict=True)


@pytest.mark.parametrize(
    "loss",
    [
        Own(),
        keras.losses.MeanAbsoluteError(),
        keras.losses.Huber(),
        keras.losses.BinaryFocalCrossentropy(from_logits=True),
        keras.losses.SquaredHinge(),
        keras.losses.CosineSimilarity(),
        keras.losses.CategoricalCrossentropy(True, label_smoothing=0.1),
    ],
    ids=lambda loss: loss.name,
)
def test_a_loss_sees_one_hot_labels_as_they_are(loss):
    defense = eager(AdversarialTraining(linear(), SHIFT), loss)
    history = defense.fit(
        FEW, ONE_HOT, validation_data=(FEW, ONE_HOT), verbose=0
    ).history
    np.testing.assert_allclose(
        history["loss"] + history["val_loss"],
        [plain(x, ONE_HOT, loss)["loss"] for x in (FEW + 0.25, FEW)],
        rtol=1e-5,
    )


def metrics_of_one_hot():
    metrics = keras.metrics
    return [
        "Accuracy",
        "mae",
        own_metric,
        metrics.AUC(from_logits=True, multi_label=True, num_labels=4, name="a"),
        metrics.BinaryAccuracy(threshold=0.0),
        metrics.CosineSimilarity(),
        metrics.F1Score(average="macro"),
        metrics.OneHotMeanIoU(CLASSES, name="iou"),
        metrics.Recall(0.0, name="recall"),
    ]


def metrics_of_numbers():
    metrics = keras.metrics
    return [
        "ACC",
        metrics.sparse_categorical_accuracy,
        metrics.MeanIoU(CLASSES, sparse_y_pred=False, name="iou"),
        metrics.SparseTopKCategoricalAccuracy(2),
        keras_wp.metrics.CertifiedAccuracy(0.1),
    ]


@pytest.mark.parametrize(
    "metrics, loss, y",
    [
        (metrics_of_one_hot, Own(), ONE_HOT),
        (metrics_of_numbers, SPARSE, NUMBERS),
    ],
)
def test_metrics_of_one_hot_labels_are_those_of_keras(metrics, loss, y):
    defense = eager(AdversarialTraining(linear(), SHIFT), metrics=metrics())
    found = defense.evaluate(FEW, ONE_HOT, verbose=0, return_dict=True)
    found |= defense.train_on_batch(FEW, ONE_HOT, return_dict=True)
    for prefix, x in (("clean_", FEW), ("robust_", FEW + 0.25)):
        wanted = plain(x, y, loss, metrics())
        del wanted["loss"]
        for name, value in wanted.items():
            np.testing.assert_allclose(found[prefix + name], value, rtol=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        keras_wp.losses.CertifiedMargin(0.1),
        keras_wp.losses.HypersphereMargin(),
        keras_wp.losses.MaxMahalanobisCenter(),
    ],
    ids=lambda loss: loss.name,
)
def test_losses_of_numbers_take_one_hot_labels(loss):
    one, two = (
        eager(MART(linear(), SHIFT), loss).evaluate(FEW, y, verbose=0)
        for y in (NUMBERS, ONE_HOT)
    )
    assert one == two


@pytest.mark.parametrize("kind", [TRADES, lambda *given: AWP(TRADES(*given))])
def test_every_defense_gives_its_loss_the_labels_as_given(kind):
    one, two = (
        eager(kind(linear(), SHIFT), loss).train_on_batch(FEW, y)
        for loss, y in ((SPARSE, NUMBERS), (Own(), ONE_HOT))
    )
    assert one == pytest.approx(two, rel=1e-5)


@pytest.mark.parametrize("kind", DEFENSES)
def test_a_loss_may_have_a_type_of_its_own(kind):
    loss = keras.losses.SparseCategoricalCrossentropy(True, dtype="float64")
    one, two = (
        eager(kind(linear(), SHIFT), loss).fit(X, Y, verbose=0).history["loss"]
        for loss in (None, loss)
    )
    assert one == pytest.approx(two, rel=1e-5)


@pytest.mark.parametrize("form", ["arrays", "dataset"])
def test_images_of_eight_bits_are_meant_by_their_bounds(form):
    pixels = np.round(255 * random_images(len(Y), SHAPE))
    attack = attacks.PGD(
        eps=8.0, steps=2, step_size=4.0, bounds=(0, 255), random_start=False
    )
    losses = [
        fit(compiled(AdversarialTraining(linear(), attack)), form, x, Y)["loss"]
        for x in (pixels.astype(np.uint8), pixels.astype(np.float32))
    ]
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_later_label_out_of_range_is_seen_in_the_loss(label, backend):
    if backend == "tensorflow":
        pytest.skip("TensorFlow's own loss refuses it on a CPU")
    defense = compiled(MART(linear(), SHIFT), keras.optimizers.SGD(0.1))
    defense.train_on_batch(X, Y)
    before = to_numpy(defense.model.layers[-1].kernel)
    wrong = Y.copy()
    wrong[3] = label
    assert np.isnan(defense.train_on_batch(X, wrong))
    after = to_numpy(defense.model.layers[-1].kernel)
    np.testing.assert_array_equal(after, before)


def test_outputs_that_are_probabilities_are_seen_on_images():
    class Closed(keras.layers.Layer):
        def call(self, x):
            return keras.ops.exp(x - keras.ops.logsumexp(x, -1, keepdims=True))

    model = keras.Sequential([keras.Input(SHAPE), linear(), Closed()])
    defense = compiled(AdversarialTraining(model, SHIFT))
    assert message_of(defense.fit, X, Y).startswith(
        "The model must return logits, not probabilities"
    )


def test_a_model_of_integers_is_refused():
    inputs = keras.Input(SHAPE, dtype="uint8")
    floats = keras.ops.cast(inputs, "float32")
    model = keras.Model(
        inputs, keras.layers.Dense(3)(keras.layers.Flatten()(floats))
    )
    assert message_of(AdversarialTraining, model, Shift(eps=0.1)) == (
        "Argument `model` must take floating-point images, as no gradient "
        "passes a cast to integers. Received: an input of the type uint8"
    )
