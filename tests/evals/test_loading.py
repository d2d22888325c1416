import os
import types

import jax
import pytest

from phi4r.evals.loading import cache_bytes
from phi4r.model.config import ModelConfig

# By hand: embedding 10 x 4, two layers of 4 * 2 * (2 + 2) * 2 attention and 3 * 4 * 8 MLP weights, norms.
CONFIG = ModelConfig(
    vocab_size=10,
    num_layers=2,
    embed_dim=4,
    num_heads=2,
    num_kv_heads=2,
    head_dim=2,
    mlp_dim=8,
    tied_embeddings=True,
)
NUM_PARAMS = 40 + 2 * (4 * 4 * 4 + 3 * 4 * 8 + 8) + 4


@pytest.mark.parametrize("itemsize", [2, 4])
def test_a_cache_may_take_a_share_of_what_weights_leave_free(monkeypatch, itemsize):
    device = types.SimpleNamespace(memory_stats=lambda: {"bytes_limit": 10_000, "bytes_in_use": 1_000})
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    assert cache_bytes(CONFIG, itemsize) == pytest.approx(0.6 * (9_000 - NUM_PARAMS * itemsize))


def test_without_an_accelerator_it_is_a_quarter_of_the_memory_of_the_host(monkeypatch):
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.get)
    assert cache_bytes(CONFIG, 2) == 1_024_000
