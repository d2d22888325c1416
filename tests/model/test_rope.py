import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phi4r.model.config import PHI4_REASONING, ModelConfig
from phi4r.model.rope import inverse_frequencies, rotary_angles, rotate
from phi4r.model.rope_scaling import LongRope, longrope_attention_factor

SHAPE = dict(vocab_size=7, num_layers=1, embed_dim=8, num_heads=1, num_kv_heads=1, head_dim=8, mlp_dim=8)
LONGROPE = LongRope(short_factor=(1.0, 2.0, 1.0), long_factor=(1.0, 4.0, 8.0), original_max_positions=16)


def longrope_config(**changes):
    """Heads of 8 of which 6 turn, theta 1000: unscaled frequencies 1, 0.1, 0.01."""
    return ModelConfig(**SHAPE, rope_theta=1000.0, rotary_fraction=0.75, longrope=LONGROPE, max_positions=256).replace(
        **changes
    )


def angle_of(config, position, pair, **kwargs):
    """The angle of one pair at one position, recovered from cos and sin; and the length of the vector."""
    cos, sin = (float(x[0, 0, pair]) for x in rotary_angles(jnp.asarray([[position]]), config, **kwargs))
    return math.atan2(sin, cos), math.hypot(cos, sin)


def test_frequencies_fall_geometrically_from_one():
    config = ModelConfig(**SHAPE, rope_theta=10000.0)
    np.testing.assert_allclose(inverse_frequencies(config), [1.0, 0.1, 0.01, 0.001], rtol=1e-6)


def test_the_slowest_frequency_of_the_reasoning_models_turns_once_in_2_6_million_positions():
    slowest = inverse_frequencies(PHI4_REASONING)[-1]  # 500000^(-126/128)
    assert 2 * math.pi / slowest == pytest.approx(2 * math.pi * math.exp(126 / 128 * math.log(500000)), rel=1e-6)
    assert 2.5e6 < 2 * math.pi / slowest < 2.6e6


def test_angles_at_position_32767_are_exact_to_the_rounding_of_the_product():
    positions = jnp.asarray([[32767]])
    cos, sin = jax.jit(lambda p: rotary_angles(p, PHI4_REASONING))(positions)
    angles = (np.float32(32767) * inverse_frequencies(PHI4_REASONING)).astype(np.float64)
    np.testing.assert_allclose(cos[0, 0], np.cos(angles), atol=1e-7, rtol=0)
    np.testing.assert_allclose(sin[0, 0], np.sin(angles), atol=1e-7, rtol=0)


def test_a_quarter_turn_moves_the_first_half_into_the_second():
    x = jnp.arange(1.0, 9.0).reshape(1, 1, 1, 8)
    cos, sin = jnp.zeros((1, 1, 4)), jnp.ones((1, 1, 4))
    np.testing.assert_array_equal(rotate(x, cos, sin)[0, 0, 0], [-5, -6, -7, -8, 1, 2, 3, 4])


def test_a_partial_rotation_leaves_the_tail_alone():
    x = jnp.arange(1.0, 9.0).reshape(1, 1, 1, 8)
    cos, sin = jnp.zeros((1, 1, 3)), jnp.ones((1, 1, 3))
    np.testing.assert_array_equal(rotate(x, cos, sin)[0, 0, 0], [-4, -5, -6, 1, 2, 3, 7, 8])


def test_scores_depend_on_the_distance_of_positions_alone():
    config = ModelConfig(**SHAPE)
    query, key = (jax.random.normal(k, (1, 1, 1, 8)) for k in jax.random.split(jax.random.key(0)))

    def score(query_position, key_position):
        turned = [
            rotate(x, *rotary_angles(jnp.asarray([[position]]), config))
            for x, position in ((query, query_position), (key, key_position))
        ]
        return float(jnp.sum(turned[0] * turned[1]))

    assert score(7, 3) == pytest.approx(score(104, 100), abs=1e-5)
    assert abs(score(7, 3) - score(8, 3)) > 1e-3


def test_the_attention_factor_of_phi_4_mini_is_1_1902():
    # ln(131072 / 4096) = ln 32 = 5 ln 2 and ln 4096 = 12 ln 2, so the factor is sqrt(1 + 5 / 12) = 1.19024.
    assert longrope_attention_factor(131072, 4096) == pytest.approx(math.sqrt(17 / 12), rel=1e-12)
    assert round(longrope_attention_factor(131072, 4096), 4) == 1.1902
    assert longrope_attention_factor(4096, 4096) == 1.0


@pytest.mark.parametrize(("position", "frequency"), [(15, 0.05), (16, 0.025)])
def test_longrope_takes_the_long_factors_past_the_original_length(position, frequency):
    angle, length = angle_of(longrope_config(), position, pair=1)
    assert angle == pytest.approx(position * frequency, rel=1e-6)
    assert length == pytest.approx(math.sqrt(1 + math.log(16) / math.log(16)), rel=1e-6)


def test_the_capacity_of_a_cache_decides_about_longrope_and_not_how_far_it_is_filled():
    assert angle_of(longrope_config(), 3, pair=1, longest=16)[0] == pytest.approx(3 * 0.05, rel=1e-6)
    assert angle_of(longrope_config(), 3, pair=1, longest=17)[0] == pytest.approx(3 * 0.025, rel=1e-6)


def test_a_config_for_a_length_keeps_its_factors_whatever_the_positions():
    assert angle_of(longrope_config().for_length(16), 40, pair=1)[0] == pytest.approx(40 * 0.05, rel=1e-6)
    assert angle_of(longrope_config().for_length(17), 3, pair=1)[0] == pytest.approx(3 * 0.025, rel=1e-6)
    plain = ModelConfig(**SHAPE)
    assert plain.for_length(10**6) is plain
