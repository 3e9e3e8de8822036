"""SplitMix64: random numbers as a pure function of a 64-bit key, with no state to carry.

Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

from numba import njit, uint64

GOLDEN = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1


def mix_plain(key: int) -> int:
    """The finished SplitMix64 output for ``key``, in Python integers."""
    z = (key + GOLDEN) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


@njit(cache=True, nogil=True, inline="always")
def mix(key):  # type: ignore[no-untyped-def]
    """``mix_plain`` in machine words."""
    z = key + uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> uint64(27))) * uint64(0x94D049BB133111EB)
    return z ^ (z >> uint64(31))


def uniform_plain(key: int) -> float:
    """Number in [0, 1) from the top 53 bits of a mixed key."""
    return (key >> 11) * 2.0**-53


@njit(cache=True, nogil=True, inline="always")
def uniform(key):  # type: ignore[no-untyped-def]
    """``uniform_plain`` in machine words."""
    return (key >> uint64(11)) * 2.0**-53
