"""The side of google-tunix in `benchmarks.generate_vs_tunix`; needs google-tunix and nothing of this project.

Run by `benchmarks.peers.Peer`: the one argument is JSON with `folder`, `prompts` (ids, all of one length) and `tokens`.
Each line of the standard input is a turn, answered with the ids that were drawn.
"""

import json
import os
import pathlib
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
sys.stdout, answers = sys.stderr, sys.stdout  # what libraries print is no answer

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from tunix.generate.sampler import CacheConfig, Sampler  # noqa: E402
from tunix.models.llama3.model import ModelConfig  # noqa: E402
from tunix.models.llama3.params import create_model_from_safe_tensors  # noqa: E402


class Ids:
    """A tokenizer whose text is ids."""

    def encode(self, text, **unused):
        """Returns the ids."""
        return [int(word) for word in text.split()]

    def decode(self, ids, **unused):
        """Returns nothing, as nobody reads it."""
        return ""

    def bos_id(self):
        """Returns 0, which the sampler takes for none."""
        return 0

    def eos_id(self):
        """Returns no id of the vocabulary: no token ends a response."""
        return -1

    def pad_id(self):
        """Returns no id of the vocabulary: nothing is padded."""
        return -2


def load_model(folder, config):
    """Returns the model with the weights of the Hugging Face folder, in float32."""
    mesh = jax.make_mesh((1, 1), ("fsdp", "tp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    with jax.set_mesh(mesh):
        return create_model_from_safe_tensors(str(folder), config, mesh, jnp.float32)


def main():
    """Loads the model, then answers turns."""
    settings = json.loads(sys.argv[1])
    folder = pathlib.Path(settings["folder"])
    hf = json.loads((folder / "config.json").read_text())
    config = ModelConfig(
        num_layers=hf["num_hidden_layers"],
        vocab_size=hf["vocab_size"],
        embed_dim=hf["hidden_size"],
        hidden_dim=hf["intermediate_size"],
        num_heads=hf["num_attention_heads"],
        head_dim=hf["hidden_size"] // hf["num_attention_heads"],
        num_kv_heads=hf["num_key_value_heads"],
        rope_theta=int(hf["rope_theta"]),
        norm_eps=hf["rms_norm_eps"],
        weight_tying=hf["tie_word_embeddings"],
    )
    prompts, tokens = settings["prompts"], settings["tokens"]
    length = len(prompts[0])
    cache = CacheConfig(length + tokens, config.num_layers, config.num_kv_heads, config.head_dim)
    sampler = Sampler(load_model(folder, config), Ids(), cache)
    texts = [" ".join(map(str, prompt)) for prompt in prompts]
    for _ in sys.stdin:
        drawn = sampler(texts, max_generation_steps=tokens, max_prompt_length=length)
        print(json.dumps([ids.tolist() for ids in drawn.tokens]), file=answers, flush=True)


if __name__ == "__main__":
    main()
