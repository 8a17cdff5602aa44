"""The devices that train, and the processes that have them."""

import contextlib
import dataclasses

import keras


@dataclasses.dataclass(frozen=True)
class Devices:
    """How training is distributed."""

    count: int = 1  # of all processes together
    strategy: object = None  # a `tf.distribute.Strategy`
    process: int = 0  # the number of this one; 0 writes the files
    processes: int = 1

    @property
    def writes(self):
        return self.process == 0

    def scope(self):
        """Where a model is built so that its training is distributed."""
        if self.strategy is None:
            return contextlib.nullcontext()
        return self.strategy.scope()

    def wait(self):
        """Wait until all processes are here."""
        if self.processes > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices("all are here")

    def leave(self):
        """End the common work: process 0 continues alone, on one device."""
        keras.distribution.set_distribution(None)
        if self.processes > 1:
            import jax

            self.wait()
            jax.distributed.shutdown()
            if not self.writes:
                raise SystemExit(0)


def set_up(config):
    """Set up the `Devices` of a `Config`, before anything is computed."""
    backend = keras.backend.backend()
    needed = {"mirrored": "tensorflow", "jax": "jax"}.get(config.distribute)
    several = config.num_processes > 1
    if needed not in (None, backend):
        raise SystemExit(
            f"--distribute={config.distribute} needs KERAS_BACKEND={needed}. "
            f"Received: KERAS_BACKEND={backend}"
        )
    if several and config.distribute != "jax":
        raise SystemExit(
            "Several processes train with --distribute=jax only. "
            f"Received: --distribute={config.distribute}"
        )
    if several and config.robust_every:
        raise SystemExit(
            "Attacks run in one process: leave out --robust_every. "
            f"Received: --num_processes={config.num_processes}"
        )
    devices = (_tensorflow if backend == "tensorflow" else _jax)(config)
    if config.batch_size % devices.count:
        raise SystemExit(
            f"--batch_size must be divisible by the {devices.count} devices. "
            f"Received: --batch_size={config.batch_size}"
        )
    return devices


def _tensorflow(config):
    import tensorflow as tf

    cpus = None
    if split := config.num_logical_devices:
        (cpu, *_) = tf.config.list_physical_devices("CPU")
        parts = [tf.config.LogicalDeviceConfiguration()] * split
        tf.config.set_logical_device_configuration(cpu, parts)
        cpus = [f"CPU:{i}" for i in range(split)]
    if config.distribute == "none":
        return Devices()
    strategy = tf.distribute.MirroredStrategy(cpus)
    return Devices(strategy.num_replicas_in_sync, strategy)


def _jax(config):
    if config.num_logical_devices:
        import jax

        jax.config.update("jax_num_cpu_devices", config.num_logical_devices)
    if config.distribute == "none":
        return Devices()
    if config.num_processes > 1:
        keras.distribution.initialize(
            config.coordinator, config.num_processes, config.process_id
        )
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(auto_shard_dataset=False)
    )
    return Devices(
        len(keras.distribution.list_devices()),
        process=config.process_id,
        processes=config.num_processes,
    )
