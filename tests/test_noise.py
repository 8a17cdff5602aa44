import math

import numpy as np
import pytest
from helpers import to_numpy, uniformity
from keras import ops

from keras_wp import _noise

MASK = 0xFFFFFFFF
GOLDEN = 0x9E3779B9
# Words of 32 bits; PyTorch holds them in more.
WORDS = (np.uint32, np.int64)


def keys_of(*rows):
    return ops.convert_to_tensor(np.array(rows, np.uint32))


def neighbouring_keys(count):
    """Keys as little random as keys can be: (0, 0), (0, 1), (0, 2), ..."""
    return ops.convert_to_tensor(
        np.stack([np.zeros(count), np.arange(count)], 1).astype(np.uint32)
    )


def mix(h):
    h = ((h ^ (h >> 16)) * 0x85EBCA6B) & MASK
    h = ((h ^ (h >> 13)) * 0xC2B2AE35) & MASK
    return h ^ (h >> 16)


def reference_bits(key, size):
    """The words of one key, in Python's own integers."""
    return [
        mix(mix((key[0] + i * GOLDEN) & MASK) ^ key[1]) for i in range(size)
    ]


def reference_fold_in(key, data):
    salted = mix((data + GOLDEN) & MASK)
    first = mix(key[0] ^ salted)
    return first, mix(((key[1] ^ first) + salted) & MASK)


def correlation(a, b):
    """Correlation of two samples, times the root of their number."""
    a, b = np.ravel(a).astype(np.float64), np.ravel(b).astype(np.float64)
    return np.corrcoef(a, b)[0, 1] * np.sqrt(len(a))


def normal_cdf(x):
    return 0.5 * (1 + np.array([math.erf(v / math.sqrt(2)) for v in x]))


def test_words_are_the_same_on_every_backend():
    # From `reference_bits((0, 0), 4)` and so on: a change of these numbers
    # changes every recorded result.
    golden = [
        [0, 2856213345, 2571116460, 2639213232],
        [779996176, 4137983873, 867435477, 1251782973],
        [3459073689, 836817700, 4161754918, 359926651],
    ]
    keys = [(0, 0), (1, 2), (MASK, MASK)]
    assert golden == [reference_bits(key, 4) for key in keys]
    words = to_numpy(_noise.bits(keys_of(*keys), (2, 2)))
    assert words.dtype in WORDS
    np.testing.assert_array_equal(words.reshape(3, 4), golden)


def test_words_match_a_reference_far_beyond_one_period_of_the_stride():
    key = (123456789, 987654321)
    words = to_numpy(_noise.bits(keys_of(key), (32, 32, 3)))
    np.testing.assert_array_equal(words.ravel(), reference_bits(key, 3072))


@pytest.mark.parametrize("data", [0, 1, 7, 2**31])
def test_fold_in_matches_a_reference(data):
    keys = [(0, 0), (1, 2), (MASK, MASK)]
    expected = [reference_fold_in(key, data) for key in keys]
    folded = to_numpy(_noise.fold_in(keys_of(*keys), data))
    np.testing.assert_array_equal(folded, expected)


def test_fold_in_takes_one_number_for_each_key():
    keys = [(0, 0), (1, 2), (3, 4)]
    folded = _noise.fold_in(
        keys_of(*keys), ops.convert_to_tensor(np.array([5, 0, 9], np.int32))
    )
    expected = [
        reference_fold_in(key, n)
        for key, n in zip(keys, (5, 0, 9), strict=True)
    ]
    np.testing.assert_array_equal(to_numpy(folded), expected)


def test_uniform_and_normal_follow_from_the_words():
    keys = [(11, 22), (33, 44)]
    uniform = to_numpy(_noise.uniform(keys_of(*keys), (50,)))
    words = np.array([reference_bits(key, 50) for key in keys])
    np.testing.assert_array_equal(uniform, (words >> 8) / 2.0**24)
    angle = np.array(
        [reference_bits(reference_fold_in(key, 1), 50) for key in keys]
    )
    expected = np.sqrt(-2 * np.log(1 - uniform.astype(np.float64)))
    expected *= np.cos(2 * np.pi * (angle >> 8) / 2.0**24)
    np.testing.assert_allclose(
        to_numpy(_noise.normal(keys_of(*keys), (50,))), expected, atol=2e-6
    )


def test_every_bit_is_a_fair_coin():
    words = to_numpy(_noise.bits(neighbouring_keys(100), (200,))).ravel()
    set_bits = (words[:, None] >> np.arange(32, dtype=np.uint32)) & 1
    deviation = (set_bits.mean(0) - 0.5) * 2 * np.sqrt(len(words))
    assert np.abs(deviation).max() < 4.5


def test_uniform_numbers_are_uniform():
    samples = to_numpy(_noise.uniform(neighbouring_keys(100), (10, 10, 3)))
    assert samples.dtype == np.float32
    assert samples.min() >= 0 and samples.max() < 1
    assert uniformity(samples) < 1.95
    # Nor is a pixel biased over the images.
    assert np.abs(samples.mean(0) - 0.5).max() * np.sqrt(12 * 100) < 4.5


def test_normal_numbers_are_normal():
    samples = to_numpy(_noise.normal(neighbouring_keys(60), (10, 10, 3)))
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()
    root = np.sqrt(samples.size)
    wide = samples.astype(np.float64)
    assert abs(wide.mean()) * root < 4.5
    assert abs((wide**2).mean() - 1) * root / np.sqrt(2) < 4.5
    assert abs((wide**3).mean()) * root / np.sqrt(15) < 4.5
    assert abs((wide**4).mean() - 3) * root / np.sqrt(96) < 4.5
    assert uniformity(samples, normal_cdf) < 1.95


@pytest.mark.parametrize("draw", [_noise.uniform, _noise.normal])
def test_neighbours_are_uncorrelated(draw):
    samples = to_numpy(draw(neighbouring_keys(50), (20, 20, 2)))
    pairs = {
        "pixels of a row": (samples[:, :, 1:], samples[:, :, :-1]),
        "pixels of a column": (samples[:, 1:], samples[:, :-1]),
        "channels": (samples[..., 0], samples[..., 1]),
        "images": (samples[1:], samples[:-1]),
        "images, next pixel": (samples[1:, :, 1:], samples[:-1, :, :-1]),
    }
    for name, (a, b) in pairs.items():
        assert abs(correlation(a, b)) < 4.5, name
        assert abs(correlation(np.square(a), np.square(b))) < 4.5, name


def test_keys_that_differ_in_either_word_are_unrelated():
    for keys in (
        keys_of((5, 0), (6, 0)),
        keys_of((0, 5), (0, 6)),
        keys_of((5, 6), (6, 5)),
        keys_of((GOLDEN, 0), (0, 1)),
    ):
        a, b = to_numpy(_noise.uniform(keys, (4000,)))
        assert abs(correlation(a, b)) < 4.5
        # The stride of positions must not let one key's words be another's,
        # shifted.
        assert abs(correlation(a[1:], b[:-1])) < 4.5
        assert abs(correlation(a[:-1], b[1:])) < 4.5


def test_streams_of_one_key_are_unrelated():
    keys = neighbouring_keys(10)
    streams = [keys] + [_noise.fold_in(keys, i) for i in range(4)]
    streams += [_noise.fold_in(_noise.fold_in(keys, 1), 1)]
    samples = [to_numpy(_noise.uniform(k, (400,))) for k in streams]
    for i, a in enumerate(samples):
        for b in samples[:i]:
            assert abs(correlation(a, b)) < 4.5


def test_numbers_do_not_depend_on_the_batch():
    keys = neighbouring_keys(7)
    whole = to_numpy(_noise.bits(keys, (5, 5, 1)))
    for i in (0, 3, 6):
        alone = to_numpy(_noise.bits(keys[i : i + 1], (5, 5, 1)))
        np.testing.assert_array_equal(alone[0], whole[i])
    reverse = to_numpy(_noise.bits(to_numpy(keys)[::-1].copy(), (5, 5, 1)))
    np.testing.assert_array_equal(reverse[::-1], whole)


def test_digests_tell_images_by_their_contents(rng):
    x = rng.random((5, 4, 4, 1)).astype(np.float32)
    digests = _noise.image_digests(x)
    assert digests.shape == (5, 2)
    assert digests.dtype == np.uint32
    assert len(np.unique(digests, axis=0)) == 5
    order = [3, 1, 4, 0, 2]
    np.testing.assert_array_equal(
        _noise.image_digests(x[order]), digests[order]
    )
    np.testing.assert_array_equal(
        _noise.image_digests(x.astype(np.float64)), digests
    )
    changed = x.copy()
    changed[2, 1, 1, 0] = np.nextafter(changed[2, 1, 1, 0], np.float32(1))
    same = (_noise.image_digests(changed) == digests).all(1)
    np.testing.assert_array_equal(same, [True, True, False, True, True])


def test_digests_and_seeded_keys_are_the_same_everywhere():
    # blake2b of the image's bytes, and of "(0, 3)".
    digests = _noise.image_digests(np.zeros((1, 2, 2, 1)))
    np.testing.assert_array_equal(digests, [[128274514, 242521337]])
    np.testing.assert_array_equal(
        _noise.seeded(digests, 0, 3), [[1798452251, 751018554]]
    )


def test_seeds_give_unrelated_keys(rng):
    digests = rng.integers(0, 2**32, (3, 2), dtype=np.uint32)
    seen = [_noise.seeded(digests, *seeds) for seeds in [(0,), (1,), (0, 0)]]
    seen += [_noise.seeded(digests, 0, 1), _noise.seeded(digests, 1, 0)]
    assert len(np.unique(np.concatenate(seen), axis=0)) == 15
    a, b = (
        to_numpy(_noise.uniform(ops.convert_to_tensor(keys), (4000,)))
        for keys in seen[:2]
    )
    assert abs(correlation(a, b)) < 4.5


def test_a_seed_is_its_value_and_not_its_type(rng):
    digests = rng.integers(0, 2**32, (3, 2), dtype=np.uint32)
    np.testing.assert_array_equal(
        _noise.seeded(digests, 0, np.int64(7)), _noise.seeded(digests, 0, 7)
    )


def reference_image_key(image):
    """The key of one image, in Python's own integers."""
    sums = [0, 0, 0, 0]
    for i, pixel in enumerate(np.ravel(image)):
        word = mix((int(np.round(pixel * 2.0**12)) + i * GOLDEN) & MASK)
        for byte in range(4):
            sums[byte] += (word >> 8 * byte) & 255
    first = mix((sums[0] + sums[1] * GOLDEN) & MASK)
    return first, mix((sums[2] + sums[3] * GOLDEN) & MASK)


def test_keys_of_images_match_a_reference(rng):
    x = rng.uniform(-1, 2, (3, 5, 4, 2)).astype(np.float32)
    keys = to_numpy(_noise.image_keys(ops.convert_to_tensor(x)))
    assert keys.dtype in WORDS
    np.testing.assert_array_equal(keys, [reference_image_key(i) for i in x])


def test_keys_of_images_do_not_depend_on_the_batch(rng):
    x = rng.random((7, 32, 32, 3), dtype=np.float32)
    together = to_numpy(_noise.image_keys(ops.convert_to_tensor(x)))
    alone = [
        to_numpy(_noise.image_keys(ops.convert_to_tensor(i[None])))[0]
        for i in x
    ]
    np.testing.assert_array_equal(together, alone)


def test_keys_of_images_tell_one_pixel_from_another():
    x = np.zeros((785, 28, 28, 1), np.float32)
    for place in range(784):
        x[place].ravel()[place] = 1 / 255
    keys = to_numpy(_noise.image_keys(ops.convert_to_tensor(x)))
    assert len(np.unique(keys, axis=0)) == 785
