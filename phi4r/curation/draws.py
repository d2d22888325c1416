"""Chance that is no chance: numbers drawn from a name, so that the same item is drawn on every machine and engine."""

import hashlib


def hash_of_id(name: str, seed: int) -> float:
    """Returns a number in [0, 1) that is drawn from (seed, name)."""
    digest = hashlib.sha256(f"{seed}/{name}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48  # 48 bits are exact in a float
