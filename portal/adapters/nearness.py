"""The one door to rensa: signatures by which texts that are nearly the same are known."""

from collections.abc import Sequence
from struct import pack

from rensa import RMinHash

PERMUTATIONS = 128
VERSION = str(RMinHash.ALGORITHM_VERSION)


def signature(shingles: Sequence[str], *, seed: int) -> bytes:
    """Return the smallest digests of shingles under 128 hash functions, 32 bits each (A. Broder, 1997).

    Args:
        shingles: pieces of a text.
        seed: a secret of the deployment, so that nobody outside can tell from signatures what a text said.
    """
    made = RMinHash(num_perm=PERMUTATIONS, seed=seed)
    made.update(list(shingles))
    return pack(f"<{PERMUTATIONS}I", *made.digest())
