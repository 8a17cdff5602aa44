"""What every test shares: quiet logs, fixed seeds, the backend's name."""

import os
import tempfile

# Read when a backend is imported, so set before anything imports one.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if os.environ["KERAS_BACKEND"] == "jax":
    # What XLA has compiled for one test serves all others that need the same,
    # in every worker and in the processes that tests start.
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        compiled = tempfile.TemporaryDirectory(prefix="keras_wp-compiled-")
        os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled.name
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    # Small programs take longer to optimize than to run: a third of the time.
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import hypothesis
import keras
import numpy as np
import pytest

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    # To rewrite a small graph takes longer than to run it a few times. The
    # processes that tests start have the rewriting, as users do.
    tf.config.optimizer.set_experimental_options(
        {"disable_meta_optimizer": True}
    )

hypothesis.settings.register_profile(
    "deterministic",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("deterministic")


@pytest.fixture(autouse=True)
def fixed_state():
    """Each test starts from the same seeds, whatever ran before it."""
    keras.utils.set_random_seed(0)
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


@pytest.fixture
def backend():
    """Name of the Keras backend the suite runs on."""
    return keras.backend.backend()


@pytest.fixture
def rng():
    """A NumPy generator, the same for each test."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def write_tfds(tmp_path_factory):
    """Writes a small set in TensorFlow Datasets' format, under a real name.

    Call it with the set's name and one list of examples for each split; it
    returns the directory to read from.
    """
    tfds = pytest.importorskip("tensorflow_datasets")

    def write(set_name, features, **splits):
        class Small(tfds.core.GeneratorBasedBuilder, skip_registration=True):
            name = set_name
            VERSION = tfds.builder_cls(set_name).VERSION

            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict(features),
                    supervised_keys=("image", "label"),
                )

            def _split_generators(self, _):
                return {
                    split: self._generate_examples(examples)
                    for split, examples in splits.items()
                }

            def _generate_examples(self, examples):
                yield from enumerate(examples)

        folder = tmp_path_factory.mktemp("tensorflow_datasets")
        Small(data_dir=folder).download_and_prepare()
        return folder

    return write


@pytest.fixture(scope="session")
def small_cifar(write_tfds):
    """Writes a CIFAR of 40 and 10 images of noise; its folder."""
    tfds = pytest.importorskip("tensorflow_datasets")

    def write(name, num_classes):
        rng = np.random.default_rng(0)
        features = {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(32, 32, 3)),
            "label": tfds.features.ClassLabel(num_classes=num_classes),
        }

        coarse = {}
        if name == "cifar100":
            features["coarse_label"] = tfds.features.ClassLabel(num_classes=20)
            coarse = {"coarse_label": 0}

        def examples(count):
            return [
                {
                    "id": str(i),
                    "image": rng.integers(0, 256, (32, 32, 3), dtype="uint8"),
                    "label": num_classes - 1 - i % num_classes,
                    **coarse,
                }
                for i in range(count)
            ]

        return write_tfds(name, features, train=examples(40), test=examples(10))

    return write


# What differs by nature on PyTorch, where nothing is compiled and a tensor
# that has a gradient is no array.
NOT_ON_TORCH = {
    "test_a_call_of_its_own_is_opened_and_what_cannot_be_is_told",
    "test_functions_run_eagerly_where_that_is_asked_for",
    "test_in_a_training_step",
    "test_it_resumes_with_the_same_numbers",
    "test_features_and_surrogates_are_looked_for_before_any_attack",
}


# What takes longest begins first, so that no process waits for it at the end.
LONGEST = {
    "test_python_blocks_run",
    "test_example_shows_training_and_a_table_and_nothing_else",
    "test_a_network_and_its_card",
}


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.originalname not in LONGEST)
    if keras.backend.backend() != "torch":
        return
    skip = pytest.mark.skip(reason="differs by nature on PyTorch")
    for item in items:
        if item.originalname in NOT_ON_TORCH:
            item.add_marker(skip)
