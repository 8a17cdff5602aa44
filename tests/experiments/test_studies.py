"""The studies beyond the paper: of finished runs, and from end to end."""

import json

import keras
import numpy as np
import pytest
from helpers import run_example
from made_reports import ENVIRONMENT, attack_result, identities
from studies import flags_of, leave, listed, run_experiments
from test_tables import RECORD

from keras_wp import Report
from keras_wp.experiments import attacks, config, heads

pytestmark = pytest.mark.once

LIMIT = 1800  # seconds
IMAGES = 20


def flags(tmp_path, *more):
    return (
        f"--runs_dir={tmp_path / 'runs'}",
        f"--output_dir={tmp_path / 'results'}",
        *more,
    )


def resisting(head, defense, seed):
    """How many images resist AutoAttack, and the adaptive attacks too."""
    if head == "plain":
        return 10, 8
    return (14, 12 + seed) if defense == "at" else (9, 6)


def finish(command):
    """What a run of this command might have left."""
    given = flags_of(command)
    seed = int(given["seed"])
    suite, worst = resisting(given.get("head"), given["defense"], seed)
    order = np.arange(IMAGES)
    clean = order < 18
    report = Report(
        clean_correct=clean,
        results=(
            attack_result("AutoAttack", clean, order < suite),
            attack_result("adaptive", order < suite, order < worst),
        ),
        environment=ENVIRONMENT,
        identities=identities(IMAGES),
    )
    folder = leave(command, {**RECORD, "seed": seed})
    report.to_json(folder / "report.json")


@pytest.fixture
def compared(tmp_path):
    """Flags of a comparison whose experiments are all finished."""
    given = flags(tmp_path, "--preset=cpu", "--seeds=0,1,2")
    given += ("--variants=robust",)
    commands = listed("compare-heads", *given)
    assert len(commands) == 2 * 2 * 3
    for command in commands:
        finish(command)
    return given


def test_heads_are_compared_image_by_image(compared, tmp_path):
    result = run_experiments("compare-heads", *compared)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("Finished before.") == 12
    (path,) = (tmp_path / "results" / "compare-heads").iterdir()
    # Some choice was made, of which there is a digest.
    assert path.name.startswith("mnist-cpu-")
    found = json.loads((path / "data.json").read_text())
    assert (found["attack"], found["eps"]) == ("AutoAttack", 0.1)
    assert found["seed"] == [0, 1, 2]
    assert found["seconds"] == 12 * 2.5
    by_name = {(r["defense"], r["variant"]): r for r in found["rows"]}
    row = by_name["at", "robust"]
    assert row["accuracy"]["worst case"] == [12 / 20, 13 / 20, 14 / 20]
    worst = row["against"]["worst case"]
    assert worst["difference"] == pytest.approx(5 / 20)
    assert worst["pooled"] == {
        "both": 24,
        "first": 0,
        "second": 15,
        "neither": 21,
    }
    low, high = worst["interval"]
    assert low < 5 / 20 < high
    assert row["runs"][1]["outcomes"]["worst case"] == "1" * 13 + "0" * 7
    row = by_name["trades", "robust"]
    assert row["against"]["worst case"]["difference"] == pytest.approx(-2 / 20)
    # All that tells this training from the script's own.
    assert found["flags"] == [
        *("--eps=0.1", "--narrow=2", "--max_attack_steps=5000"),
        *("--train_images=4000", "--epochs=8", "--eval_images=200"),
    ]
    text = (path / "table.md").read_text()
    assert f"with `{' '.join(found['flags'])}`" in text
    assert "| at | robust | 90.0 (90.0–90.0) | 70.0 (70.0–70.0) |" in text


def test_trainings_differ_in_the_head_alone(tmp_path):
    commands = listed(
        "compare-heads", *flags(tmp_path, "--preset=gpu", "--variants=all")
    )
    by_head = {}
    for command in commands:
        given = flags_of(command)
        assert (given["attacks"], given["adaptive"]) == ("autoattack", "True")
        key = given["defense"], given["seed"]
        head = [given.pop(k, "") for k in ("head", "activation", "s", "alpha")]
        del given["output_dir"]
        by_head.setdefault(key, {})[tuple(head)] = given
    assert len(by_head) == 2 * 3
    for trainings in by_head.values():
        # No two heads are the same, and nothing else differs.
        assert len(trainings) == len(commands) // len(by_head)
        assert len({json.dumps(t) for t in trainings.values()}) == 1


def test_every_variant_can_be_compared(tmp_path):
    commands = listed("compare-heads", *flags(tmp_path, "--variants=all"))
    found = {flags_of(command).get("head") for command in commands}
    assert set(heads.VARIANTS) <= found


def test_a_network_is_trained_once_for_all_epochs(tmp_path):
    commands = listed("growing-epochs", *flags(tmp_path, "--preset=cpu"))
    trained = {}
    for command in map(flags_of, commands):
        if "snapshot_of" in command:
            longest = trained[command["snapshot_of"]]
            assert command["epochs"] in longest["snapshots"].split(",")
            for name in ("head", "activation", "defense", "seed", "narrow"):
                assert command.get(name) == longest.get(name)
        else:
            trained[command["output_dir"]] = command
    assert len(trained) == 5
    assert {c["epochs"] for c in trained.values()} == {"64"}
    assert len(commands) == 5 * 4


def test_some_methods_can_grow_for_longer(tmp_path):
    given = "--preset=cpu", "--methods=wp-tanh,plain", "--checkpoints=400,64"
    commands = listed("growing-epochs", *flags(tmp_path, *given))
    found = [flags_of(command) for command in commands]
    assert [(c.get("head"), c["epochs"]) for c in found] == [
        ("plain", "400"),
        ("plain", "64"),
        (None, "400"),
        (None, "64"),
    ]
    assert [c.get("snapshots") for c in found] == ["64", None] * 2
    # Nothing is in the way of the preset's own, or of other checkpoints.
    preset = listed("growing-epochs", *flags(tmp_path, "--preset=cpu"))
    given = "--preset=cpu", "--checkpoints=64,100"
    other = listed("growing-epochs", *flags(tmp_path, *given))
    folders = [flags_of(c)["output_dir"] for c in (*commands, *preset, *other)]
    assert len(set(folders)) == len(folders)


@pytest.mark.parametrize(
    "given, message",
    [
        (
            "--methods=plain,at",
            "--methods must be of plain, wp-relu, wp-tanh, mmc, advtraining. "
            "Received: at",
        ),
        (
            "--checkpoints=4,0",
            "--checkpoints must be numbers of epochs, at least 1. "
            "Received: 4,0",
        ),
    ],
)
def test_what_cannot_grow_is_one_sentence(given, message, tmp_path):
    result = run_experiments("growing-epochs", *flags(tmp_path, given))
    assert (result.returncode, result.stderr) == (1, f"{message}\n")


@pytest.mark.parametrize(
    "given, message",
    [
        (
            ("--defenses=at,magic",),
            "--defenses must be of none, at, trades, mart. Received: magic",
        ),
        (
            ("--defenses=mart", "--variants=mmc"),
            "MART has a loss of its own, and cannot train the head mmc. "
            "Received: --defenses=mart --variants=mmc",
        ),
        *(
            (
                (f"--seeds={seeds}",),
                "--seeds must be one integer or several different ones. "
                f"Received: {seeds or 'none'}",
            )
            for seeds in ("0,a", "", "0,1,0")
        ),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(given, message, tmp_path):
    result = run_experiments("compare-heads", *flags(tmp_path, *given))
    assert (result.returncode, result.stderr) == (1, f"{message}\n")


@pytest.mark.parametrize(
    "command, flag",
    [("compare-heads", "--variants"), ("train", "--max_attack_steps")],
)
def test_help_lists_the_flags_of_a_command(command, flag):
    assert f"  {flag}: " in run_experiments(command, "--help").stdout


def test_labels_say_what_is_run():
    names = [
        "autoattack",
        "mta100",
        "mta100-paper-published",
        "cw100",
        "pgd40-dlr",
    ]
    step = ":step_size=0.0031"
    whole = ["AutoAttack", "MTA100", f"MTA100-published{step}", "C&W100"]
    fewer = ["AutoAttack:steps=50,queries=50", "MTA50"]
    fewer += [f"MTA50-published{step}", "C&W50"]
    digits = np.zeros((1, 28, 28, 1))
    # What is called AutoAttack is the standard suite only.
    for limit, expected in (
        (None, [*whole, "PGD40-dlr"]),
        (50, [*fewer, "PGD40-dlr"]),
        (5000, [*whole, "PGD40-dlr"]),
    ):
        chosen = config.Config(max_attack_steps=limit)
        found = [attacks.by_name(chosen, name, digits) for name in names]
        assert [attack.label for attack in found] == expected
        assert (found[2].published_sign, found[2].loss) == (True, "center")


def smoke(folder, *more):
    return (
        "mnist_small_cnn",
        "--preset=smoke",
        "--narrow=4",
        "--attacks=fgsm",
        "--eps=0.1",
        f"--output_dir={folder}",
        *more,
    )


def run_well(*command):
    result = run_example(*command, timeout=LIMIT)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    return result


def study_well(*command):
    result = run_experiments(*command, timeout=LIMIT)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr


def weights(folder):
    model = keras.models.load_model(folder / "model.keras", compile=False)
    return model.get_weights()


@pytest.mark.slow
def test_snapshot_is_what_a_shorter_training_ends_with(tmp_path):
    long, short, taken = (tmp_path / name for name in ("l", "s", "t"))
    run_well(*smoke(long, "--epochs=2", "--snapshots=1", "--defense=at"))
    run_well(*smoke(short, "--epochs=1", "--defense=at"))
    run_well(
        *smoke(taken, "--epochs=1", f"--snapshot_of={long}", "--defense=at")
    )
    for a, b in zip(weights(taken), weights(short), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(weights(taken), weights(long), strict=True)
    )
    reports = [
        Report.from_json(folder / "report.json") for folder in (taken, short)
    ]
    assert reports[0].clean_accuracy == reports[1].clean_accuracy
    history = json.loads((taken / "history.json").read_text())
    assert len(history) == 1
    record = json.loads((taken / "record.json").read_text())
    assert record["seconds"]["training"] == 0
    for given, complaint in (
        (("--epochs=2",), "--snapshot_of needs a run with --snapshots=2. "),
        (
            ("--epochs=1", "--alpha=3", "--defense=at"),
            "--snapshot_of needs a run that was trained in the same way. "
            f"Received: {long}, which has --alpha=100.0 (now 3.0)\n",
        ),
    ):
        result = run_example(
            *smoke(tmp_path / "r", f"--snapshot_of={long}", *given)
        )
        assert result.returncode == 1
        assert result.stderr.startswith(complaint)


@pytest.mark.slow
@pytest.mark.parametrize(
    "head", ["rising", "squared", "limited", "fixed-norm", "sphere-learned"]
)
def test_variant_trains_and_is_attacked_adaptively(head, tmp_path):
    run_well(*smoke(tmp_path, f"--head={head}", "--adaptive"))
    report = json.loads((tmp_path / "report.json").read_text())
    names = [result["name"] for result in report["results"]]
    assert names == ["FGSM", "adaptive"]
    history = json.loads((tmp_path / "history.json").read_text())
    assert np.isfinite(history[0]["loss"])


@pytest.mark.slow
def test_growing_epochs_run_from_end_to_end(tmp_path):
    study_well("growing-epochs", *flags(tmp_path, "--preset=smoke"))
    path = tmp_path / "results" / "growing-epochs" / "mnist-smoke"
    found = json.loads((path / "data.json").read_text())
    assert [(r["method"], r["epochs"]) for r in found["rows"]] == [
        (method, epochs)
        for method in ("Plain", "WP, ReLU", "WP, Tanh", "MMC", "AdvTraining")
        for epochs in (1, 2)
    ]
    assert (
        found["attacks"]["AutoAttack"]["as_run"]
        == "AutoAttack:steps=2,queries=2"
    )
    assert (
        found["attacks"]["MTA, as published"]["as_run"]
        == "MTA2-published:step_size=0.01"
    )
    for row in found["rows"]:
        mean = row["mean"]
        assert mean["worst_case"] <= min(mean["PGD"], mean["AutoAttack"])
        tanh = row["method"] == "WP, Tanh"
        assert (mean["saturated"] is not None) == tanh
        assert 0 <= mean["min_angle"] <= 180
    written = (path / "table.md").read_text()
    (path / "table.md").unlink()
    study_well("render", f"--output_dir={tmp_path / 'results'}")
    assert (path / "table.md").read_text() == written


@pytest.mark.slow
@pytest.mark.parametrize(
    "script", ["mnist_small_cnn", "cifar10_small_cnn", "cifar10_wrn"]
)
def test_heads_are_compared_from_end_to_end(script, small_cifar, tmp_path):
    study_well(
        "compare-heads",
        *flags(tmp_path, "--preset=smoke", f"--script={script}"),
        *("--seeds=0,1", "--defenses=trades", "--variants=limited"),
        f"--data_dir={small_cifar('cifar10', 10)}",
    )
    (path,) = (tmp_path / "results" / "compare-heads").glob("*/data.json")
    found = json.loads(path.read_text())
    assert found["images"] == 4
    assert [row["variant"] for row in found["rows"]] == ["plain", "limited"]
    for row in found["rows"]:
        for run in row["runs"]:
            right = {k: v.count("1") for k, v in run["outcomes"].items()}
            assert right["worst case"] <= right["AutoAttack:steps=2,queries=2"]
            assert right["AutoAttack:steps=2,queries=2"] <= right["clean"]
