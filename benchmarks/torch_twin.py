"""The same network in PyTorch: what peers that know only PyTorch attack."""

import keras
import numpy as np
import torch
from torch import nn

import keras_wp as kwp


class _FlattenChannelsLast(nn.Module):
    """Flattens (N, C, H, W) in the order of (N, H, W, C), as Keras does."""

    def forward(self, x):
        return x.permute(0, 2, 3, 1).flatten(1)


class _Scale(nn.Module):
    def __init__(self, scale, offset):
        super().__init__()
        shape = (1, -1, 1, 1)
        self.register_buffer("scale", _tensor(scale).reshape(shape))
        self.register_buffer("offset", _tensor(offset).reshape(shape))

    def forward(self, x):
        return x * self.scale + self.offset


def _tensor(values):
    return torch.from_numpy(np.array(values, np.float32))


def _convert(layer):
    weights = [np.array(w) for w in layer.get_weights()]
    if isinstance(layer, keras.layers.InputLayer):
        return []
    if isinstance(layer, keras.layers.Rescaling):
        scale = np.atleast_1d(layer.scale)
        return [_Scale(scale, np.broadcast_to(layer.offset, scale.shape))]
    if isinstance(layer, keras.layers.Conv2D):
        kernel = weights[0].transpose(3, 2, 0, 1)
        module = nn.Conv2d(*kernel.shape[1::-1], 3, bias=layer.use_bias)
        return [_filled(module, kernel, weights[1:])]
    if isinstance(layer, keras.layers.Dense):
        return [_dense(layer, weights)]
    if isinstance(layer, keras.layers.BatchNormalization):
        flat = len(layer.input.shape) == 2
        kind = nn.BatchNorm1d if flat else nn.BatchNorm2d
        module = kind(len(weights[0]), eps=layer.epsilon)
        names = ("weight", "bias", "running_mean", "running_var")
        for name, value in zip(names, weights, strict=True):
            getattr(module, name).data.copy_(_tensor(value))
        return [module]
    if isinstance(layer, keras.layers.ReLU):
        return [nn.ReLU()]
    if isinstance(layer, keras.layers.MaxPooling2D):
        return [nn.MaxPool2d(2)]
    if isinstance(layer, keras.layers.Flatten):
        return [_FlattenChannelsLast()]
    if isinstance(layer, keras.layers.Activation):
        return [_activation(layer.activation)]
    if isinstance(layer, kwp.RobustHead):
        return [_activation(layer.activation), _dense(layer.dense, weights)]
    raise ValueError(f"No PyTorch form of the layer {layer}.")


def _activation(function):
    return {"tanh": nn.Tanh, "relu": nn.ReLU}[function.__name__]()


def _dense(layer, weights):
    kernel = weights[0].T
    module = nn.Linear(*kernel.shape[::-1], bias=layer.use_bias)
    return _filled(module, kernel, weights[1:])


def _filled(module, kernel, bias):
    module.weight.data.copy_(_tensor(kernel))
    if bias:
        module.bias.data.copy_(_tensor(bias[0]))
    return module


def twin(model, x):
    """A PyTorch module with the weights of a Keras model of `small_cnn`.

    Args:
        model: The Keras model.
        x: Images `(N, H, W, C)` on which the two must agree.

    Raises:
        ValueError: If a layer has no twin, or the logits differ.
    """
    modules = [module for layer in model.layers for module in _convert(layer)]
    module = nn.Sequential(*modules).eval().requires_grad_(False)
    with torch.no_grad():
        logits = module(to_torch(x)).numpy()
    expected = model.predict(x, verbose=0)
    difference = np.abs(logits - expected).max()
    if difference > 1e-4 * np.abs(expected).max():
        raise ValueError(f"The twin's logits are off by {difference}.")
    return module


def to_torch(x):
    """Images `(N, H, W, C)` as a tensor `(N, C, H, W)`."""
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def from_torch(x):
    """The inverse of `to_torch`."""
    return np.ascontiguousarray(x.detach().numpy().transpose(0, 2, 3, 1))
