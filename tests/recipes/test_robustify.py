"""`robustify`: what it trains, chooses, continues and refuses."""

import dataclasses

import keras
import numpy as np
import pytest
from helpers import message_of, plainly

import keras_wp
from keras_wp import recipes
from keras_wp.callbacks import CatastrophicOverfitting
from keras_wp.recipes.course import Course, Followed
from keras_wp.recipes.data import split

EPS = 0.1
FEW = {"steps": 2, "averaging": 0.5, "learning_rate": 0.1}
QUICK = recipes.Recipe(epochs=3, attacks=("pgd5",), **FEW)


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """Reports of the attacks asked for alone: it is training that is tried."""
    monkeypatch.setattr("keras_wp.recipes.training.evaluate", plainly)


def images(count=240, seed=0, scale=1.0):
    """Bright and dark images, and whether they are bright."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 2
    x = rng.uniform(0.1, 0.4, (count, 4, 4, 1)) + 0.5 * y[:, None, None, None]
    return (scale * x).astype("float32"), y


def network(activation=None):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation=activation),
        ]
    )


def robustify(model, data, eps=EPS, budget=QUICK, **given):
    return keras_wp.robustify(
        model,
        data,
        eps,
        budget=budget,
        **{"verbose": 0, "batch_size": 32, **given},
    )


@pytest.mark.once
def test_the_best_weights_are_returned_and_measured():
    model, test = network(), images(60, seed=1)
    found = robustify(model, images(), test_data=test)
    assert found.model is model
    values = found.history["val_robust_accuracy"]
    assert len(values) == QUICK.epochs
    attack = keras_wp.attacks.PGD(eps=EPS, steps=20, loss="margin")
    _, held_out = split(images(), None, seed=0)
    again = plainly(model, held_out, [attack])
    assert again.robust_accuracy == max(values)
    x, y = test
    assert len(found.report) == len(x)
    right = model.predict(x, verbose=0).argmax(-1) == y
    np.testing.assert_array_equal(found.report.clean_correct, right)


@pytest.mark.parametrize("budget", ["fast", "standard", "strong"])
def test_every_budget_trains(budget):
    recipe = dataclasses.replace(
        recipes.BUDGETS[budget], epochs=3, attacks=("pgd5",), **FEW
    )
    found = robustify(network(), images(), budget=recipe)
    assert found.report.robust_accuracy > 0.9


def test_images_held_out_are_not_trained_on():
    data = images(200)
    (x, y), (x_val, y_val) = split(data, None, seed=3)
    assert len(x) == 180 and len(x_val) == 20
    together = np.concatenate([x, x_val])
    assert len(np.unique(together.reshape(200, -1), axis=0)) == 200
    (again, _), _ = split(data, None, seed=3)
    (other, _), _ = split(data, None, seed=4)
    np.testing.assert_array_equal(x, again)
    assert not np.array_equal(x, other)


@pytest.mark.once
def test_a_softmax_is_left_out():
    found = robustify(network("softmax"), images())
    logits = found.model.predict(images(10)[0], verbose=0)
    assert (np.abs(logits.sum(-1) - 1) > 1e-3).any()
    assert found.report.robust_accuracy > 0.9


@pytest.mark.once
@pytest.mark.parametrize(
    "scale, dtype, eps",
    [
        (255, "uint8", EPS),
        pytest.param(255, "uint8", 255 * EPS, marks=pytest.mark.slow),
        pytest.param(255, "float32", 25.5, marks=pytest.mark.slow),
    ],
)
def test_bytes_are_pixels(scale, dtype, eps):
    x, y = images(scale=scale)
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Rescaling(1 / 255), network()]
    )
    found = robustify(model, (x.astype(dtype), y), eps=eps)
    (result,) = [r for r in found.report.results if r.name == "PGD5"]
    assert result.eps == pytest.approx(eps)
    assert found.report.robust_accuracy > 0.9


@pytest.mark.once
def test_a_dataset_is_trained_on():
    import tensorflow as tf

    batches = tf.data.Dataset.from_tensor_slices(images()).batch(32)
    found = robustify(network(), batches, validation_data=images(40, seed=1))
    assert found.report.robust_accuracy > 0.9


@pytest.mark.once
def test_the_budget_grows(monkeypatch):
    seen = []
    original = keras_wp.defenses.TRADES.make_train_function

    def noted(self, force=False):
        seen.append(round(self.attack.eps, 6))
        return original(self, force)

    monkeypatch.setattr(keras_wp.defenses.TRADES, "make_train_function", noted)
    recipe = dataclasses.replace(QUICK, ramp=2, epochs=4)
    robustify(network(), images(), budget=recipe)
    thirds = [round(EPS * share / 3, 6) for share in (1, 2, 3)]
    assert [
        eps
        for eps, before in zip(seen[1:], seen, strict=False)
        if eps != before
    ] == (thirds)


@pytest.mark.once
def test_an_interrupted_training_continues(tmp_path, monkeypatch):
    data = images()
    whole = robustify(network(), data, directory=tmp_path / "whole")
    add = Course.add

    def interrupted(self, logs):
        add(self, logs)
        if len(self.history["loss"]) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Course, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        robustify(network(), data, directory=tmp_path / "cut")
    monkeypatch.setattr(Course, "add", add)
    continued = robustify(network(), data, directory=tmp_path / "cut")
    assert continued.history.keys() == whole.history.keys()
    for name, values in whole.history.items():
        np.testing.assert_allclose(
            continued.history[name], values, rtol=1e-4, err_msg=name
        )
    for mine, theirs in zip(
        continued.model.get_weights(), whole.model.get_weights(), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)
    # A finished training is not repeated.
    monkeypatch.setattr(
        keras.Model, "fit", lambda *a, **k: pytest.fail("trained again")
    )
    again = robustify(network(), data, directory=tmp_path / "cut")
    assert again.history == continued.history


@pytest.mark.once
def test_a_line_for_each_epoch(capsys):
    robustify(network("softmax"), images(), verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "TRADES (beta 6), PGD2, averaged weights (0.5); linf within 0.1; "
        "softmax removed"
    )
    assert len(lines) == QUICK.epochs + 2
    assert lines[-1] == "attacking with pgd5"
    assert lines[1].startswith("epoch   1/3  loss ")
    assert "validation: clean" in lines[1] and "robust" in lines[1]


@pytest.mark.once
@pytest.mark.parametrize(
    "given, message",
    [
        (
            {"budget": "huge"},
            "Argument `budget` must be one of fast, standard, strong, or a "
            "keras_wp.recipes.Recipe. Received: budget='huge'",
        ),
        ({"eps": 0}, "Argument `eps` must be a finite number greater than 0. "),
        ({"norm": "l1"}, "norm"),
        ({"epochs": 0}, "epochs"),
        (
            {"data": (np.zeros((5, 4, 4, 1)), np.zeros(4, int))},
            "`data` must have as many labels as images. Received: 5 images "
            "and 4 labels",
        ),
        (
            {"data": (np.zeros((5, 4, 4, 1)), np.zeros(5, int))},
            "`data` must have at least 10 images, if a tenth is to be held "
            "out. Received: 5",
        ),
        (
            {"data": [(np.zeros((5, 4, 4, 1)), np.zeros(5, int))] * 3},
            "Argument `validation_data` must be given where `data` are no "
            "arrays. Received: data of type list",
        ),
        (
            {"model": "resnet"},
            "Argument `model` must be a keras.Model. Received: str",
        ),
        (
            {"data": (255 * images()[0], images()[1])},
            "Images must lie within the bounds",
        ),
    ],
)
def test_refused_before_training(given, message):
    arguments = {"model": None, "data": images(), **given}
    model = arguments.pop("model") or network()
    data = arguments.pop("data")
    assert message in message_of(robustify, model, data, **arguments)


@pytest.mark.once
def test_a_folder_of_another_training_is_refused(tmp_path):
    x, y = images()
    call = {"data": (x, y), "eps": EPS, "directory": tmp_path / "run"}
    made = robustify(network(), **call)
    hinge = keras.losses.CategoricalHinge()
    sgd = keras.optimizers.SGD
    changes = {
        "eps=0.2 (there: 0.1)": {"eps": 0.2},
        "augment=True (there: False)": {"augment": True},
        "another loss": {"loss": hinge},
        "another optimizer": {"optimizer": sgd(0.1)},
        "another inputs": {"inputs": keras_wp.Inputs()},
        "another training set, another validation set": {"data": (x, 1 - y)},
    }
    for told, given in changes.items():
        assert message_of(robustify, network(), **{**call, **given}) == (
            "Argument `directory` must be new, or that of the same call. "
            f"Received: {str(tmp_path / 'run')!r}, with {told}"
        )
    silu = keras.Sequential(
        [*network().layers, keras.layers.Activation("silu")]
    )
    with pytest.raises(ValueError, match="with another model"):
        robustify(silu, **call)
    # Of the same network with other weights, it is said.
    other = network()
    other.set_weights([-w for w in other.get_weights()])
    with pytest.warns(UserWarning, match="began with other weights"):
        again = robustify(other, **call)
    for mine, theirs in zip(
        again.model.get_weights(), made.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.once
def test_units_of_validation_images_are_those_of_the_others():
    x, y = images()
    held = (255 * x[:20]).astype(np.uint8), y[:20]
    assert message_of(
        robustify, network(), (x, y), validation_data=held
    ).startswith("`data` and `validation_data` must have images in the same")

    bytes_ = (255 * x).astype(np.uint8), y
    assert message_of(
        robustify, network(), bytes_, validation_data=(x, y)
    ).startswith("`data` and `validation_data` must have images in the same")


X_TEST, Y_TEST = images(30, seed=1)


@pytest.mark.once
@pytest.mark.parametrize(
    "test_data, message",
    [
        (X_TEST, "`test_data` must consist of (x, y) pairs"),
        (0.1, "`test_data` must be (x, y) arrays or a dataset"),
        ((X_TEST, Y_TEST[:-1]), "`test_data` must have as many labels"),
        ((X_TEST[:0], Y_TEST[:0]), "`test_data`"),
        ((X_TEST + 1, Y_TEST), "`test_data` is not as it must be. Images must"),
        ((X_TEST, Y_TEST + 5), "`test_data` is not as it must be. Labels must"),
        ((X_TEST[:, :2], Y_TEST), "`test_data` is not as it must be. The mod"),
        (
            ((255 * X_TEST).astype(np.uint8), Y_TEST),
            "`data` and `test_data` must have images in the same units",
        ),
    ],
)
def test_what_cannot_be_reported_on_is_refused_before_training(
    test_data, message, monkeypatch
):
    monkeypatch.setattr(
        keras.Model, "fit", lambda *a, **k: pytest.fail("trained first")
    )
    told = message_of(robustify, network(), images(), test_data=test_data)
    assert message in told


@pytest.mark.once
def test_steps_of_an_epoch_are_those_of_arrays():
    told = message_of(robustify, network(), images(), steps_per_epoch=2)
    assert told.endswith("Received: steps_per_epoch=2")


@pytest.mark.once
def test_a_network_that_is_not_built_loses_its_softmax(tmp_path, capsys):
    call = {"data": images(), "directory": tmp_path / "run", "verbose": 1}
    layers = [keras.layers.Flatten(), keras.layers.Dense(2, "softmax")]
    keras.utils.set_random_seed(0)
    robustify(keras.Sequential(layers), **call)
    assert "; softmax removed\n" in capsys.readouterr().out
    # What was trained already is not trained again, and that is said.
    with pytest.warns(UserWarning, match="its own are taken"):
        robustify(keras.Sequential(layers), **call)
    (first, *_) = capsys.readouterr().out.splitlines()
    assert first.endswith(f"removed; trained already, in {tmp_path / 'run'}")
    (tmp_path / "file").touch()
    call["directory"] = tmp_path / "file"
    assert message_of(robustify, network(), **call).startswith(
        "Argument `directory` must be a folder. Received: a file, "
    )


@pytest.mark.once
def test_data_need_not_end():
    x, y = images()
    data = keras_wp.datasets.batches(x, y, 32, seed=0)
    more = {"validation_data": (x, y), "steps_per_epoch": 2}
    assert len(robustify(network(), data, **more).history["loss"]) == 3


@pytest.mark.once
@pytest.mark.filterwarnings("ignore:Catastrophic overfitting:UserWarning")
@pytest.mark.filterwarnings("ignore:No epoch has made:UserWarning")
def test_the_attack_of_an_alarm_grows_too(monkeypatch):
    script, seen = [(0.6, 0.5), (0.9, 0.1), (0.9, 0.1)], []

    def measured(self):
        names = ("fgsm_accuracy", "pgd_accuracy")
        return dict(zip(names, script.pop(0), strict=True))

    def begin(self, epoch, logs=None):
        set_budget(self, epoch, logs)
        seen.append((self.model.attack.label, self.model.attack.eps))

    set_budget = Followed.on_epoch_begin
    monkeypatch.setattr(Followed, "on_epoch_begin", begin)
    monkeypatch.setattr(CatastrophicOverfitting, "_measured", measured)
    ramped = dataclasses.replace(QUICK, defense="fast", ramp=3)
    robustify(network(), images(), budget=ramped)
    assert [label for label, _ in seen] == ["N-FGSM", "PGD5"]
    np.testing.assert_allclose([eps for _, eps in seen], [EPS / 4, EPS / 2])


@pytest.mark.once
@pytest.mark.parametrize(
    "given",
    [
        {"defense": "mart"},
        {"steps": 0},
        {"averaging": 1.0},
        {"label_smoothing": -0.1},
        {"learning_rate": 0},
        {"ramp": -1},
        {"attacks": ()},
        {"attacks": (keras_wp.attacks.FGSM(eps=0.1),)},
    ],
)
def test_recipes_are_checked(given):
    with pytest.raises(ValueError, match=next(iter(given))):
        recipes.Recipe(**given)


@pytest.mark.once
def test_attacks_of_a_recipe_may_be_one_text():
    told = message_of(recipes.Recipe, attacks="nonsense")
    assert told.startswith("An attack must be named as one of")
    recipe = recipes.Recipe(attacks="autoattack, pgd:steps=5,restarts=2")
    assert recipe.attacks == ("autoattack", "pgd:steps=5,restarts=2")
