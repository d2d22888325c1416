import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phi4r.checkpoint.release import load_hf_folder, save_hf_folder
from phi4r.errors import UserError
from phi4r.model.config import PHI4_REASONING, ModelConfig
from phi4r.model.rope import inverse_frequencies, rotary_angles
from phi4r.model.rope_scaling import LongRope, RopeSettings, ntk_divisors, yarn_divisors
from phi4r.model.transformer import Transformer, unembed

SHAPE = dict(vocab_size=7, num_layers=1, embed_dim=64, num_heads=1, num_kv_heads=1, head_dim=64, mlp_dim=8)
PLAIN = ModelConfig(**SHAPE, rope_theta=500000.0, max_positions=32768, rotary_fraction=0.75)
TWICE = {
    "none": RopeSettings("none", 2.0),
    "linear": RopeSettings("linear", 2.0),
    "ntk": RopeSettings("ntk", 2.0),
    "yarn": RopeSettings("yarn", 2.0),
    "longrope": RopeSettings("longrope", 2.0, (1.0,) * 24, tuple(1.0 + i / 8 for i in range(24))),
}


# Worked by hand


def test_ntk_keeps_the_fastest_pair_and_divides_the_slowest():
    assert ntk_divisors(8, 8.0) == pytest.approx([1.0, 2.0, 4.0, 8.0])  # 8^(2i / 6)


def test_the_ramp_of_yarn():
    """theta 10^4 and d = 8: a pair turns 10^(3 - i) times in 2 pi 1000 = 6283 positions.

    32 turns lie at i = 1.49, rounded down to 1, and one turn at 3: so the shares are 0, 0, 1/2, 1.
    """
    assert yarn_divisors(8, 1e4, 4.0, 6283) == pytest.approx([1.0, 1.0, 1 / (0.5 / 4 + 0.5), 4.0])
    # Not rounded, from 1.4949 to 3.0000: pair 2 is at 0.5051 / 1.5051.
    share = 0.5051 / 1.5051
    assert yarn_divisors(8, 1e4, 4.0, 6283, truncate=False) == pytest.approx(
        [1.0, 1.0, 1 / (share / 4 + 1 - share), 4.0], rel=1e-3
    )


def test_the_reasoning_model_goes_to_65536_positions_with_yarn():
    """Of 64 pairs the first 25 turn at least 32 times in 32,768 positions, and from pair 42 on less than once."""
    config = PHI4_REASONING.with_rope(RopeSettings("yarn", 2.0))
    assert config.max_positions == 65536
    divisors = np.array(config.longrope.long_factor)
    turns = 32768 * 500000.0 ** (-np.arange(64) / 64) / (2 * math.pi)
    assert turns[24] > 32 > turns[25] and turns[41] > 1 > turns[42]
    np.testing.assert_array_equal(divisors[:25], 1.0)
    np.testing.assert_array_equal(divisors[42:], 2.0)
    assert (np.diff(divisors[24:43]) > 0).all()
    assert config.longrope.attention_factor == pytest.approx(1 + 0.1 * 0.693147)


@pytest.mark.parametrize("name", TWICE)
def test_the_angle_of_a_position_depends_on_nothing_else(name):
    """So keys in a cache stay right while a row grows, and training rotates as sampling does."""
    config = PLAIN.with_rope(TWICE[name]).for_length(65536)
    alone = rotary_angles(jnp.asarray([[40000]]), config)
    for positions, longest in (([[40000, 65535]], None), ([[40000, 0]], 50000), ([[40000, 3]], 65536)):
        among = rotary_angles(jnp.asarray(positions), config, longest=longest)
        for one, many in zip(alone, among, strict=True):
            np.testing.assert_array_equal(one[:, 0], many[:, 0])


def test_none_takes_the_positions_and_leaves_the_angles():
    config = PLAIN.with_rope(TWICE["none"])
    assert config == PLAIN.replace(max_positions=65536)
    assert PLAIN.with_rope(RopeSettings()) is PLAIN


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(factor=2.0), "rope.factor=2 needs rope.scaling"),
        (dict(scaling="yarn"), "rope.scaling=yarn needs rope.factor above 1"),
        (dict(scaling="linear", factor=0.5), "rope.factor=0.5 must be at least 1"),
        (dict(scaling="longrope", factor=2.0, long_factor=(1.0,)), "both"),
        (dict(scaling="ntk", factor=2.0, short_factor=(1.0,)), "rope.scaling=longrope"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        RopeSettings(**settings)


def test_a_model_is_scaled_once_and_by_factors_of_its_shape():
    with pytest.raises(UserError, match="scales its frequencies already"):
        PLAIN.with_rope(TWICE["yarn"]).with_rope(TWICE["linear"])
    with pytest.raises(UserError, match="short_factor has 1 factors; this shape needs 24"):
        PLAIN.with_rope(RopeSettings("longrope", 2.0, (1.0,), (2.0,)))


# Against the reference


def reference_frequencies(rope, *, seq_len=None, config=PLAIN):
    """The inverse frequencies of transformers for `rope_parameters`, and its factor on cos and sin."""
    transformers = pytest.importorskip("transformers")
    rope_utils = pytest.importorskip("transformers.modeling_rope_utils")
    theirs = transformers.LlamaConfig(
        hidden_size=config.embed_dim,
        num_attention_heads=config.num_heads,
        head_dim=config.head_dim,
        max_position_embeddings=config.max_positions,
        rope_parameters={
            "rope_theta": config.rope_theta,
            "partial_rotary_factor": config.rotary_fraction,
            **rope,
        },
    )
    frequencies, factor = rope_utils.ROPE_INIT_FUNCTIONS[rope["rope_type"]](theirs, "cpu", seq_len=seq_len)
    return frequencies.numpy(), factor


REFERENCES = {
    "linear": dict(rope_type="linear", factor=2.0),
    # At twice the original length; its own factor extends rows further the longer they are.
    "ntk": dict(rope_type="dynamic", factor=1.0),
    "yarn": dict(rope_type="yarn", factor=2.0, original_max_position_embeddings=32768),
    "longrope": dict(
        rope_type="longrope",
        factor=2.0,
        original_max_position_embeddings=32768,
        short_factor=list(TWICE["longrope"].short_factor),
        long_factor=list(TWICE["longrope"].long_factor),
    ),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_frequencies_and_factor_are_those_of_the_reference(name):
    expected, expected_factor = reference_frequencies(REFERENCES[name], seq_len=65536)
    config = PLAIN.with_rope(TWICE[name])
    frequencies = inverse_frequencies(config, config.longrope.long_factor)
    np.testing.assert_allclose(frequencies, expected, rtol=4e-7)
    # What pair 0 shows at position 0 is the factor.
    cos, sin = rotary_angles(jnp.asarray([[0]]), config.for_length(65536))
    np.testing.assert_allclose(np.hypot(cos, sin), expected_factor, rtol=1e-6)
    assert np.abs(expected / inverse_frequencies(PLAIN) - 1).max() > 0.4, "the reference scales nothing"


@pytest.mark.parametrize(
    "rope",
    [
        REFERENCES["linear"],
        REFERENCES["yarn"],
        {**REFERENCES["yarn"], "attention_factor": 1.25, "beta_fast": 16, "beta_slow": 2, "truncate": False},
        REFERENCES["longrope"],
        {**REFERENCES["longrope"], "attention_factor": 0.9},
    ],
    ids=["linear", "yarn", "yarn_of_its_own", "longrope", "longrope_of_its_own"],
)
def test_config_json_is_read_as_the_reference_reads_it_and_round_trips(rope):
    expected, expected_factor = reference_frequencies(rope, seq_len=65536)
    hf = {**PLAIN.to_hf(), "rope_scaling": {"type": rope["rope_type"], **rope}}
    config = ModelConfig.from_hf(hf)
    np.testing.assert_allclose(inverse_frequencies(config, config.longrope.long_factor), expected, rtol=4e-7)
    cos, _ = rotary_angles(jnp.asarray([[0]]), config.for_length(65536))
    np.testing.assert_allclose(cos, expected_factor, rtol=1e-6)
    assert ModelConfig.from_hf(config.to_hf()) == config


@pytest.mark.parametrize("name", TWICE)
def test_what_a_run_scales_is_written_to_config_json_and_read_back(name):
    config = PLAIN.with_rope(TWICE[name])
    assert ModelConfig.from_hf(config.to_hf()) == config


TINY = dict(
    vocab_size=101,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=96,
    max_position_embeddings=8192,
    pad_token_id=0,
)
TINY_ROPE = {
    "linear": dict(rope_type="linear", rope_theta=10000.0, factor=4.0),
    "yarn": dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=2048),
}
FIRST_POSITION = 8000


def logits_of_reference(model, tokens):
    """Logits [B T V] of transformers at positions from FIRST_POSITION on."""
    import torch

    positions = FIRST_POSITION + torch.arange(tokens.shape[1])[None].expand(tokens.shape[0], -1)
    with torch.no_grad():
        return model(torch.as_tensor(tokens), position_ids=positions, use_cache=False).logits.numpy()


@pytest.mark.parametrize("name", TINY_ROPE)
def test_a_scaled_llama_agrees_with_the_reference_and_leaves_as_a_phi3_that_does_too(name, tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    hf_config = transformers.LlamaConfig(**TINY, rope_parameters=TINY_ROPE[name], initializer_range=0.15)
    hf_config._attn_implementation = "eager"
    reference = transformers.LlamaForCausalLM(hf_config).eval()
    reference.save_pretrained(tmp_path / "llama")
    tokens = np.random.default_rng(0).integers(0, 101, (2, 24))
    expected = logits_of_reference(reference, tokens)

    config, params = load_hf_folder(tmp_path / "llama")
    positions = FIRST_POSITION + np.broadcast_to(np.arange(24), tokens.shape)
    forward = jax.jit(
        lambda params, config: unembed(
            Transformer(config).apply({"params": params}, tokens, np.ones_like(tokens), positions)[0], params
        ),
        static_argnums=1,
    )
    np.testing.assert_allclose(forward(params, config), expected, atol=5e-5, rtol=0)
    assert np.abs(forward(params, config.replace(longrope=None)) - expected).max() > 0.1

    save_hf_folder(tmp_path / "again", params, config=config, source_folder=tmp_path / "llama")
    assert (tmp_path / "again/config.json").read_bytes() == (tmp_path / "llama/config.json").read_bytes()
    save_hf_folder(tmp_path / "phi3", params, config=config)
    exported = transformers.Phi3ForCausalLM.from_pretrained(tmp_path / "phi3", attn_implementation="eager").eval()
    np.testing.assert_allclose(logits_of_reference(exported, tokens), expected, atol=5e-5, rtol=0)
    assert load_hf_folder(tmp_path / "phi3")[0].longrope == config.longrope


def test_a_longrope_without_its_own_factor_takes_that_of_the_model():
    config = PLAIN.with_rope(TWICE["longrope"])
    assert config.longrope == LongRope(TWICE["longrope"].short_factor, TWICE["longrope"].long_factor, 32768)
    cos, _ = rotary_angles(jnp.asarray([[0]]), config)
    assert float(cos[0, 0, 0]) == pytest.approx(math.sqrt(1 + math.log(2) / math.log(32768)), rel=1e-6)
