"""PyTorch: nothing is traced, and no graph is kept but that of a gradient."""

import contextlib

import keras
import numpy as np
import torch

ANYWHERE = (None,)
DYNAMIC_BATCH = True
LOOPS_COST = False


def vjp(fn, x):
    x = keras.ops.convert_to_tensor(x).detach().requires_grad_()
    with torch.enable_grad():
        outputs = fn(x)

    def pullback(cotangent):
        if not outputs.requires_grad:
            return torch.zeros_like(x)
        (gradient,) = torch.autograd.grad(
            outputs, x, cotangent, retain_graph=True, allow_unused=True
        )
        return torch.zeros_like(x) if gradient is None else gradient

    return outputs.detach(), pullback


def gradient(fn, tensors):
    tensors = [x.detach().requires_grad_() for x in tensors]
    with torch.enable_grad():
        value = fn(tensors)
    found = torch.autograd.grad(value, tensors, allow_unused=True)
    return [
        torch.zeros_like(x) if slope is None else slope
        for x, slope in zip(tensors, found, strict=True)
    ]


def over_replicas(tensors):
    return tensors


def select(mask, yes, no):
    return torch.where(mask.reshape(-1, *[1] * (yes.ndim - 1)), yes, no)


def words(x):
    # Words of 32 bits are held by integers of 64.
    return x & 0xFFFFFFFF


def of_shape(x, like):
    del like
    return x


def in_parts(fn, x):
    return fn(x)


def dividing():
    return contextlib.nullcontext()


def devices(variables):
    del variables
    return ANYWHERE


def spread(tree, devices, shares=None):
    del devices, shares
    return keras.tree.map_structure(keras.ops.convert_to_tensor, tree)


def to_numpy(x):
    return keras.ops.convert_to_numpy(x)


def rows(x, places):
    return to_numpy(x[np.asarray(places)])


class compile:
    """A function as it is, called without a graph for gradients."""

    def __init__(self, fn, variables=tuple, devices=ANYWHERE):
        del variables
        self._fn = fn
        self.devices = devices
        self.traces = 0

    def __call__(self, *args):
        self.traces = 1
        args = keras.tree.map_structure(keras.ops.convert_to_tensor, args)
        with torch.no_grad():
            return self._fn(*args)


def preferred_slots(batch_size):
    return batch_size if torch.cuda.is_available() else min(batch_size, 64)


def coarse_products():
    fine = torch.get_float32_matmul_precision() == "highest"
    if fine and not (
        torch.cuda.is_available() and torch.backends.cudnn.allow_tf32
    ):
        return None
    return (
        'call torch.set_float32_matmul_precision("highest") and set '
        "torch.backends.cudnn.allow_tf32 to False"
    )


def steps_at_once():
    return 1


def repeat(times, body, state):
    for _ in range(times):
        state = body(state)
    return state
