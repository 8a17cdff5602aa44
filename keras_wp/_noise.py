"""Random numbers keyed by the image, the same on every backend and device.

A key is a pair of 32-bit words, one row of a `(N, 2)` uint32 tensor. An
image's numbers are a hash of its key and of their position, so they depend on
nothing else: not on the batch, the slot, the device or the order of the data.
Words are mixed by the 32-bit finalizer of MurmurHash3 (Appleby, 2011).
"""

import hashlib
import math

import numpy as np
from keras import ops

from keras_wp._backend import words

_GOLDEN = 0x9E3779B9


def image_digests(x):
    """Digest the contents of each image: `(N, ...)` to `(N, 2)` uint32.

    Noise is keyed by what an image is, not by where it stands, so that a
    shuffled data set meets the same noise.
    """
    x = np.ascontiguousarray(x, dtype=np.float32)
    digests = [
        hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in x
    ]
    return np.frombuffer(b"".join(digests), dtype=np.uint32).reshape(-1, 2)


def seeded(digests, *seeds):
    """Keys for the images with these digests, under integer seeds (host)."""
    # A NumPy integer has another `repr` than the int it equals.
    seeds = repr(tuple(int(seed) for seed in seeds))
    digest = hashlib.blake2b(seeds.encode(), digest_size=8).digest()
    salt = np.frombuffer(digest, dtype=np.uint32)
    return np.asarray(digests, dtype=np.uint32) ^ salt


def _word(value):
    return ops.convert_to_tensor(np.uint32(value))


def _mix(h):
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = ops.bitwise_xor(h, ops.right_shift(h, _word(shift)))
        h = words(ops.multiply(h, _word(factor)))
    return ops.bitwise_xor(h, ops.right_shift(h, _word(16)))


def fold_in(keys, data):
    """New keys from `keys` and an integer, or one integer for each key."""
    number = isinstance(data, int)
    data = _word(data) if number else words(ops.cast(data, "uint32"))
    salted = _mix(words(ops.add(data, _word(_GOLDEN))))
    first = _mix(ops.bitwise_xor(keys[:, 0], salted))
    second = _mix(words(ops.add(ops.bitwise_xor(keys[:, 1], first), salted)))
    return ops.stack([first, second], axis=1)


def _placed(x, size):
    """Words `(N, 1)` or `(N, size)` mixed with positions: `(N, size)`."""
    position = (np.arange(size, dtype=np.uint64) * _GOLDEN) & 0xFFFFFFFF
    position = ops.convert_to_tensor(position.astype(np.uint32))
    return _mix(words(ops.add(x, position[None, :])))


def bits(keys, shape):
    """Uniform 32-bit words: `(N, *shape)` uint32."""
    found = _placed(keys[:, :1], math.prod(shape))
    found = _mix(ops.bitwise_xor(found, keys[:, 1:]))
    return ops.reshape(found, (-1, *shape))


def uniform(keys, shape):
    """Uniform numbers in [0, 1): `(N, *shape)` float32."""
    high = ops.right_shift(bits(keys, shape), _word(8))
    return ops.cast(high, "float32") * 2.0**-24


def normal(keys, shape):
    """Standard normal numbers: `(N, *shape)` float32 (Box and Muller)."""
    radius = ops.sqrt(-2.0 * ops.log(1.0 - uniform(keys, shape)))
    angle = 2.0 * math.pi * uniform(fold_in(keys, 1), shape)
    return radius * ops.cos(angle)


def image_keys(x):
    """Keys from the contents of images, inside a graph: `(N, 2)` uint32.

    A key depends on nothing but its image: not on the batch, nor on the
    replica. To be so exactly, what is summed are bytes, and float32 holds
    their sum in whatever order, up to 65,793 pixels and channels. Images that
    differ by less than 2**-12 in every pixel may have the same key.
    """
    count, size = ops.shape(x)[0], math.prod(x.shape[1:])
    levels = ops.round(ops.reshape(x, (count, size)) * 2.0**12)
    found = words(ops.cast(ops.cast(levels, "int32"), "uint32"))
    found = _placed(found, size)
    sums = []
    for shift in (0, 8, 16, 24):
        byte = ops.bitwise_and(ops.right_shift(found, _word(shift)), _word(255))
        total = ops.sum(ops.cast(byte, "float32"), axis=1)
        sums.append(ops.cast(ops.cast(total, "int32"), "uint32"))
    first, second = (
        _mix(words(ops.add(a, ops.multiply(b, _word(_GOLDEN)))))
        for a, b in (sums[:2], sums[2:])
    )
    return ops.stack([first, second], axis=1)
