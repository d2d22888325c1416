"""How far the sampler's log-probabilities are from the trainer's for the same tokens, on SmolLM2-135M.

    python -m benchmarks.logprob_gap

The sampler answers prompts at temperature 1, from pages and columns, a token at a time; then the trainer scores the
packed rows of the same answers, as GRPO does in every step (`phi4r.rl.gaps`). Parameters are float32 on the trainer's
side, as in training, and the sampler decodes with a copy in the dtype of activations. Before an update both compute
the same policy, so all that is seen here is rounding.
"""

import argparse
import pathlib

import jax
import numpy as np

from benchmarks.generate_vs_transformers import DEFAULT_FOLDER, make_prompts
from benchmarks.smollm2 import write_smollm2_folder
from phi4r.checkpoint.release import load_hf_folder
from phi4r.model.config import ModelConfig
from phi4r.model.transformer import Transformer
from phi4r.rl.gaps import logprob_gaps
from phi4r.rl.scoring import make_score_fn
from phi4r.rl.trajectories import PackedShape
from phi4r.sampling import Sampler, SamplerSettings, SamplingParams
from phi4r.sharding import MeshSettings, make_mesh
from phi4r.typing import Params

END = 2  # <|im_end|>
QUANTILES = (0.5, 0.9, 0.99, 0.999)


def measure_gaps(config: ModelConfig, params: Params, prompts: list[list[int]], max_response: int) -> np.ndarray:
    """Returns log p of the trainer minus log p of the sampler for every drawn token."""
    settings = SamplerSettings(max(map(len, prompts)), max_response, num_slots=8, page_size=64)
    sampler = Sampler(config, settings, eos_ids=[END], pad_id=END)
    samples = sampler.sample(sampler.unroll(params), prompts, jax.random.key(0), sampling=SamplingParams())
    mesh = make_mesh(MeshSettings(), jax.devices()[:1], heads=config.heads)
    shape = PackedShape.fitting(len(prompts), samples.tokens.shape[1], num_microbatches=len(prompts))
    score_fn = make_score_fn(
        Transformer(config), chunk_size=shape.row_length, temperature=1.0, num_microbatches=shape.num_microbatches
    )
    with jax.set_mesh(mesh):
        return np.concatenate(logprob_gaps(samples, params, score_fn, shape, mesh, num_parts=1))


def main() -> None:
    """Measures each dtype and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=32, help="answers (default 32)")
    parser.add_argument("--tokens", type=int, default=256, help="the most tokens of an answer (default 256)")
    parser.add_argument("--folder", type=pathlib.Path, default=DEFAULT_FOLDER, help="where the model is kept")
    args = parser.parse_args()
    config, params = load_hf_folder(write_smollm2_folder(args.folder))
    prompts = make_prompts(args.folder, batch=args.prompts, length=48)
    columns = ("tokens", "mean", "mean signed", *(f"{q:.1%}" for q in QUANTILES), "largest", "eff. sample")
    print(f"{'|gap|, nats':12s}" + "".join(f"{name:>13s}" for name in columns))
    for dtype in ("float32", "bfloat16"):
        gaps = measure_gaps(config.replace(dtype=dtype), params, prompts, args.tokens)
        size, ratio = np.abs(gaps), np.exp(gaps)
        share = ratio.sum() ** 2 / (ratio**2).sum() / len(ratio)  # of the importance weights' effective sample
        values = (size.mean(), gaps.mean(), *np.quantile(size, QUANTILES), size.max(), share)
        print(f"{dtype:12s}{len(gaps):13d}" + "".join(f"{value:13.2e}" for value in values[:-1]) + f"{share:13.5f}")


if __name__ == "__main__":
    main()
