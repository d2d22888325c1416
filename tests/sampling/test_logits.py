import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from phi4r.metrics.throughput import CompileCounter
from phi4r.sampling.logits import SamplingParams, choose_tokens, keep_top_k, keep_top_p


def rows(*values):
    return jnp.array(values, jnp.float32)


def kept(filtered) -> list[list[int]]:
    """Which tokens of every row are left."""
    return [np.flatnonzero(np.isfinite(row)).tolist() for row in filtered]


# Top-k


@pytest.mark.parametrize(
    ("top_k", "expected"), [(1, [[1], [0]]), (2, [[1, 3], [0, 2]]), (4, [[0, 1, 2, 3]] * 2), (0, [[0, 1, 2, 3]] * 2)]
)
def test_top_k_keeps_the_k_largest_of_every_row(top_k, expected):
    logits = rows([1.0, 4.0, 0.0, 2.0], [5.0, -1.0, 3.0, -2.0])
    filtered = keep_top_k(logits, jnp.int32(top_k))
    assert kept(filtered) == expected
    np.testing.assert_array_equal(filtered[jnp.isfinite(filtered)], logits[jnp.isfinite(filtered)])


def test_ties_with_the_last_of_the_top_k_are_kept():
    assert kept(keep_top_k(rows([1.0, 2.0, 2.0, 2.0, 3.0]), jnp.int32(2))) == [[1, 2, 3, 4]]


def test_a_top_k_beyond_the_vocabulary_keeps_all():
    assert kept(keep_top_k(rows([1.0, 2.0]), jnp.int32(50))) == [[0, 1]]


# Top-p


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (0.02, [2]),
        (0.45, [2]),
        (0.55, [1, 2]),
        (0.75, [1, 2]),
        (0.85, [1, 2, 3]),
        (0.92, [0, 1, 2, 3]),
        (1.0, [*range(5)]),
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(top_p, expected):
    logits = jnp.log(rows([0.07, 0.3, 0.5, 0.1, 0.03]))
    assert kept(keep_top_p(logits, jnp.float32(top_p))) == [expected]


def test_ties_with_the_last_of_the_top_p_are_kept():
    assert kept(keep_top_p(jnp.log(rows([0.25] * 4)), jnp.float32(0.3))) == [[0, 1, 2, 3]]


def test_top_p_looks_at_what_top_k_left():
    # Of 0.4, 0.3, 0.2, 0.1 the top 2 are renormalised to 4/7 and 3/7: 0.5 is reached by the first alone.
    logits = jnp.log(rows([0.4, 0.3, 0.2, 0.1]))
    left = keep_top_p(keep_top_k(logits, jnp.int32(2)), jnp.float32(0.5))
    assert kept(left) == [[0]]
    assert kept(keep_top_p(logits, jnp.float32(0.5))) == [[0, 1]]
    drawn, _ = draw(logits, 200, top_k=2, top_p=0.5)
    assert set(drawn) == {0}


# Drawing


def draw(logits, num, **params):
    """Draws `num` tokens from one row of logits; returns tokens and log-probabilities."""
    keys = jax.random.split(jax.random.key(7), num)
    rows = jnp.broadcast_to(logits, (num, logits.shape[1]))
    tokens, logprobs, _ = choose_tokens(rows, keys, SamplingParams(**params))
    return np.asarray(tokens), np.asarray(logprobs)


LOGITS = rows([1.5, 0.0, -1.0, 0.7, 2.0, -0.5])


@pytest.mark.parametrize("temperature", [1.0, 0.6, 2.0])
def test_frequencies_follow_the_softmax_at_the_temperature(temperature):
    tokens, _ = draw(LOGITS, 20_000, temperature=temperature)
    weights = np.exp(np.asarray(LOGITS[0], np.float64) / temperature)
    observed = np.bincount(tokens, minlength=6)
    assert stats.chisquare(observed, 20_000 * weights / weights.sum()).pvalue > 1e-3
    other = np.exp(np.asarray(LOGITS[0], np.float64) / (temperature * 1.1))
    assert stats.chisquare(observed, 20_000 * other / other.sum()).pvalue < 1e-3  # the test would notice


def test_frequencies_under_top_k_are_the_renormalised_ones():
    tokens, _ = draw(LOGITS, 10_000, top_k=3)
    weights = np.exp([1.5, 0.7, 2.0])
    observed = np.bincount(tokens, minlength=6)
    assert observed[[1, 2, 5]].sum() == 0
    assert stats.chisquare(observed[[0, 3, 4]], 10_000 * weights / weights.sum()).pvalue > 1e-3


def test_min_p_keeps_what_is_likely_enough_beside_the_likeliest():
    """Shares of the likeliest: e^-0.5 = 0.61, e^-1.3 = 0.27, e^-2 = 0.14, e^-2.5 = 0.08, e^-3 = 0.05."""
    for min_p, expected in [(0.0, range(6)), (0.1, [0, 1, 3, 4]), (0.2, [0, 3, 4]), (0.7, [4])]:
        assert set(draw(LOGITS, 2000, min_p=min_p)[0]) == set(expected)


def test_the_entropy_is_that_of_the_tempered_softmax_in_nats():
    logits = jnp.log(jnp.asarray([[0.5, 0.25, 0.25], [1e-30, 1.0, 1e-30]]))
    *_, entropies = choose_tokens(logits, jax.random.split(jax.random.key(0)), SamplingParams(top_k=1))
    np.testing.assert_allclose(entropies, [1.5 * np.log(2), 0.0], atol=1e-6)


def test_a_forced_token_has_the_log_probability_it_would_have_drawn():
    logits = jnp.log(jnp.asarray([[0.5, 0.25, 0.25], [0.125, 0.875, 0.0]]))
    keys = jax.random.split(jax.random.key(0))
    for params in (SamplingParams(), SamplingParams(temperature=0.0)):
        tokens, logprobs, _ = choose_tokens(logits, keys, params, jnp.asarray([2, 0]))
        assert tokens.tolist() == [2, 0]
        np.testing.assert_allclose(logprobs, np.log([0.25, 0.125]), rtol=1e-6)
        free, *_ = choose_tokens(logits, keys, params)
        assert choose_tokens(logits, keys, params, jnp.asarray([-1, -1]))[0].tolist() == free.tolist()


def test_log_probabilities_are_of_the_tempered_softmax_before_top_k_and_top_p():
    tokens, logprobs = draw(LOGITS, 100, temperature=0.8, top_k=2, top_p=0.9)
    scaled = np.asarray(LOGITS[0], np.float64) / 0.8
    expected = scaled - np.log(np.exp(scaled).sum())
    np.testing.assert_allclose(logprobs, expected[tokens], atol=1e-6)


def test_temperature_zero_is_greedy_with_the_log_probabilities_of_temperature_one():
    tokens, logprobs = draw(LOGITS, 50, temperature=0.0)
    assert set(tokens) == {4}
    np.testing.assert_allclose(logprobs, 2.0 - np.log(np.exp(np.asarray(LOGITS[0], np.float64)).sum()), atol=1e-6)


def test_a_row_does_not_depend_on_its_neighbours():
    logits = jax.random.normal(jax.random.key(0), (6, 11))
    keys = jax.random.split(jax.random.key(1), 6)
    params = SamplingParams(temperature=1.3, top_p=0.9)
    together, *_ = jax.jit(choose_tokens)(logits, keys, params)
    alone = jax.jit(choose_tokens)
    apart = [int(alone(logits[i : i + 1], keys[i : i + 1], params)[0][0]) for i in (3, 0, 5)]
    assert apart == [int(together[i]) for i in (3, 0, 5)]


def test_no_value_compiles_anything_anew():
    step = jax.jit(choose_tokens)
    logits, keys = jnp.zeros((2, 9)), jax.random.split(jax.random.key(0), 2)
    step(logits, keys, SamplingParams())
    with CompileCounter() as compiles:
        for temperature, top_k, top_p in [(0.0, 0, 1.0), (0.8, 50, 0.95), (1.5, 2, 0.1)]:
            step(logits, keys, SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p))
    assert compiles.count == 0
