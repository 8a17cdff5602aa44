"""The attack of a defense as plain values, and back."""

import dataclasses

import keras
import numpy as np

from keras_wp import attacks
from keras_wp.attacks.surrogate import Surrogate


def serialize_attack(attack):
    """An attack as values that JSON can hold.

    Raises:
        ValueError: If it takes its gradients from another model.
    """
    kind = type(attack)
    return {
        "class_name": keras.saving.get_registered_name(kind),
        # Somebody else's attack may have the name of one of these.
        "ours": vars(attacks).get(kind.__name__) is kind,
        "config": _fields(attack),
    }


def _fields(instance):
    fields = {}
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, Surrogate):
            if value.model is not None:
                raise ValueError(
                    "A defense whose attack takes the gradients of another "
                    "model cannot be saved: save `defense.model`. Received: "
                    f"{instance!r}"
                )
            value = {"surrogate": _fields(value)}
        elif value is not None:
            value = keras.saving.serialize_keras_object(value)
        fields[field.name] = value
    return fields


def deserialize_attack(config, custom_objects=None):
    """The attack that `serialize_attack` was given.

    Raises:
        ValueError: If its class is not known.
    """
    name = config["class_name"]
    kind = keras.saving.get_registered_object(
        name, custom_objects, vars(attacks) if config["ours"] else None
    )
    if kind is None:
        raise ValueError(
            "A defense needs the class of its attack: register it by "
            "`@keras.saving.register_keras_serializable()`, or pass it in "
            f"`custom_objects`. Received: the attack {name!r}"
        )
    fields = {}
    for key, value in config["config"].items():
        if isinstance(value, dict) and "surrogate" in value:
            value = Surrogate(**value["surrogate"])
        elif value is not None:
            value = keras.saving.deserialize_keras_object(value, custom_objects)
        # JSON knows no tuples.
        fields[key] = tuple(value) if isinstance(value, list) else value
    return kind(**fields)
