"""Random numbers that can be saved, restored, and recomputed.

Two needs, two generators.

*Initial weights, shuffles, sampling* are drawn on the CPU by NumPy's Philox generator, whatever
the device, so one seed gives one model everywhere.

*Dropout* wants a mask that need not be kept: the backward pass makes it again. So its bits are a
function of (key, position), a counter-based generator (Salmon et al., "Parallel random numbers:
as easy as 1, 2, 3", 2011). Element ``i`` gets

    bits(i) = mix(mix(i ^ k0) + k1)            all arithmetic modulo 2**32

where ``mix`` is a bijection of the 32-bit integers with nearly ideal avalanche (each input bit
flips each output bit with probability 1/2): the two-multiplication xorshift hash found by Chris
Wellons' search ("hash-prospector", 2018). It takes ten integer instructions where Philox takes
about eighty, it is plain in NumPy, CuPy and Triton, and gives the same bits in all three.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from tinygrad_llm.backend import Array, ArrayModule
from tinygrad_llm.backend.draws import note_draw
from tinygrad_llm.errors import ConfigError

Key = tuple[int, int] | Array  # two 32-bit integers: a tuple, or a uint32 array (2,) on a GPU

_MULTIPLIER_1, _MULTIPLIER_2 = 0x7FEB352D, 0x846CA68B


def random_bits(xp: ArrayModule, key: Key, n: int, offset: int = 0) -> Array:
    """``n`` uniform 32-bit integers: those of the counters ``offset .. offset + n - 1``.

    Args:
        xp: the array module, numpy or cupy.
        key: two 32-bit integers; another key is another, independent stream.
        n: how many.
        offset: the first counter.

    Returns:
        uint32 array (n,).
    """
    counter = xp.arange(offset, offset + n, dtype=xp.int64).astype(xp.uint32)  # wraps mod 2**32
    return hash_counters(xp, counter, key)


def hash_counters(xp: ArrayModule, counter: Array, key: Key) -> Array:
    """The bits of the given uint32 counters; overwrites and returns ``counter``."""
    counter ^= xp.uint32(key[0])
    _mix(xp, counter)
    counter += xp.uint32(key[1])
    return _mix(xp, counter)


def _mix(xp: ArrayModule, x: Array) -> Array:
    """A bijection of the 32-bit integers with good avalanche, in place."""
    x ^= x >> xp.uint32(16)
    x *= xp.uint32(_MULTIPLIER_1)
    x ^= x >> xp.uint32(15)
    x *= xp.uint32(_MULTIPLIER_2)
    x ^= x >> xp.uint32(16)
    return x


def drop_threshold(p: float) -> int:
    """An element is kept when its bits are at least this: P(kept) = 1 - p up to 2**-32."""
    return min(round(p * 2.0**32), 2**32 - 1)


def keep_mask(xp: ArrayModule, key: Key, shape: tuple[int, ...], p: float) -> Array:
    """The boolean mask of kept elements, by the C-order index of each. Same on every backend."""
    n = int(np.prod(shape, dtype=np.int64))
    return (random_bits(xp, key, n) >= xp.uint32(drop_threshold(p))).reshape(shape)


class DeviceKeys(Protocol):
    """Keys in device memory, for a recorded step."""

    used: int

    def next(self) -> Key: ...


Place = tuple[Mapping[str, Any], DeviceKeys | None, int | None]  # where a generator stands


class Generator:
    """A stream of random numbers with a state that can be written to JSON.

    Args:
        seed: any integer from 0 to 2**64 - 1.

    Raises:
        ConfigError: the seed is not such an integer.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Start again, as a new generator with this seed."""
        if not isinstance(seed, (int, np.integer)) or not 0 <= int(seed) < 2**64:
            raise ConfigError(f"seed: expected an integer from 0 to 2**64 - 1, got {seed!r}.")
        self._numpy = np.random.Generator(np.random.Philox(int(seed)))
        self.keys_on_device: DeviceKeys | None = None

    def normal(
        self, shape: tuple[int, ...], std: float = 1.0, dtype: type | np.dtype = np.float32
    ) -> Array:
        """Gaussian numbers with mean 0, drawn on the CPU.

        Raises:
            ConfigError: the standard deviation is below 0.
        """
        if not std >= 0:
            raise ConfigError(f"normal: std must be at least 0, got {std!r}.")
        draw = np.float64 if np.dtype(dtype) == np.float64 else np.float32
        return (self._stream().standard_normal(shape, dtype=draw) * draw(std)).astype(dtype)

    def uniform(self, shape: tuple[int, ...] = (), low: float = 0.0, high: float = 1.0) -> Array:
        """Uniform float64 numbers of [low, high)."""
        return self._stream().uniform(low, high, shape)

    def integers(self, low: int, high: int, shape: tuple[int, ...] = ()) -> Array:
        """Uniform int64 numbers of low .. high - 1."""
        return self._stream().integers(low, high, shape)

    def permutation(self, n: int) -> Array:
        """The numbers 0 .. n - 1 in random order."""
        return self._stream().permutation(n)

    def next_key(self) -> Key:
        """A fresh key for `random_bits`, such as one call of dropout needs.

        While a CUDA graph is recorded, the key is two numbers in device memory, which get new
        values before each replay (`keys_on_device`).
        """
        if self.keys_on_device is not None:
            note_draw(self)
            return self.keys_on_device.next()
        k0, k1 = self._stream().integers(0, 2**32, 2, dtype=np.uint32).tolist()
        return k0, k1

    def _stream(self) -> np.random.Generator:
        note_draw(self)
        return self._numpy

    def place(self) -> Place:
        """Where the generator stands, with its keys on the device; for `go_to`, not for a file."""
        keys = self.keys_on_device
        return self._numpy.bit_generator.state, keys, None if keys is None else keys.used

    def go_to(self, place: Place) -> None:
        """Go on from a `place`."""
        self._numpy.bit_generator.state, keys, used = place
        if keys is not None and used is not None:
            keys.used = used

    def state(self) -> dict[str, object]:
        """Everything needed to go on from here, in JSON's types."""
        return {k: _to_json(v) for k, v in self._numpy.bit_generator.state.items()}

    def set_state(self, state: Mapping[str, object]) -> None:
        """Go on from a saved `state`.

        Raises:
            ConfigError: not a state of this generator.
        """
        try:
            self._numpy.bit_generator.state = {k: _from_json(v) for k, v in state.items()}
        except (AttributeError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                f"generator state: expected what Generator.state() returned, got {state!r:.80}."
            ) from error


def _to_json(value: object) -> object:
    if isinstance(value, dict):
        return {k: _to_json(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return {"uint64": [int(v) for v in value]}
    return value.item() if isinstance(value, np.generic) else value


def _from_json(value: object) -> object:
    if isinstance(value, Mapping):
        if set(value) == {"uint64"}:
            return np.array(value["uint64"], dtype=np.uint64)
        return {k: _from_json(v) for k, v in value.items()}
    return value


_DEFAULT = Generator(0)


def default_generator() -> Generator:
    """The generator used where none is given."""
    return _DEFAULT


def manual_seed(seed: int) -> Generator:
    """Seed the default generator: weights, dropout and shuffles follow from it alone."""
    _DEFAULT.seed(seed)
    return _DEFAULT
