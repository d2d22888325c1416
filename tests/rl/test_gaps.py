import jax
import numpy as np
import pytest

from phi4r.rl.gaps import logprob_gaps
from phi4r.rl.trajectories import PackedShape
from phi4r.sharding import MeshSettings, make_mesh
from tests.rl.test_trajectories import random_samples


@pytest.mark.parametrize("num_parts", [1, 3])
@pytest.mark.parametrize("context", [1, 2])
def test_every_token_gets_its_own_gap_in_the_order_of_the_response(num_parts, context):
    samples = random_samples(12, 4, 8)
    mesh = make_mesh(MeshSettings(context=context))
    shape = PackedShape.fitting(12 // num_parts, 12, row_length=24, num_microbatches=2, row_shards=8, context=context)

    def score(policy, batch):  # a trainer that thinks of a token as its id says
        return policy * batch.targets

    gaps = logprob_gaps(samples, np.float32(-0.5), jax.jit(score), shape, mesh, num_parts=num_parts)
    assert len(gaps) == 12
    for row, gap in enumerate(gaps):
        drawn = samples.response_mask[row]
        expected = -0.5 * samples.tokens[row][drawn] - samples.logprobs[row][drawn]
        np.testing.assert_allclose(gap, expected, rtol=1e-6)
