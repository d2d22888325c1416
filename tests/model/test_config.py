import pytest

from phi4r.errors import UserError
from phi4r.model.config import PHI4, PHI4_REASONING, ModelConfig
from phi4r.model.rope_scaling import LongRope

# The released config.json of microsoft/phi-4, fields that decide about the shape.
PHI4_JSON = {
    "architectures": ["Phi3ForCausalLM"],
    "model_type": "phi3",
    "vocab_size": 100352,
    "hidden_size": 5120,
    "intermediate_size": 17920,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "num_key_value_heads": 10,
    "max_position_embeddings": 16384,
    "original_max_position_embeddings": 16384,
    "rope_theta": 250000,
    "rope_scaling": None,
    "rms_norm_eps": 1e-05,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "attention_bias": False,
    "initializer_range": 0.02,
    "torch_dtype": "bfloat16",
}
MINI_FACTORS = {"short_factor": [1.0] * 48, "long_factor": [1.0 + i for i in range(48)]}
MINI_JSON = {
    **PHI4_JSON,
    "vocab_size": 200064,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "original_max_position_embeddings": 4096,
    "partial_rotary_factor": 0.75,
    "rope_theta": 10000.0,
    "rope_scaling": {"type": "longrope", **MINI_FACTORS},
    "sliding_window": 262144,
    "tie_word_embeddings": True,
}


def test_the_released_config_of_phi_4_is_the_preset():
    assert ModelConfig.from_hf(PHI4_JSON, dtype="bfloat16", param_dtype="bfloat16", remat="full") == PHI4
    reasoning = {**PHI4_JSON, "rope_theta": 500000.0, "max_position_embeddings": 32768}
    assert ModelConfig.from_hf(reasoning, dtype="bfloat16", param_dtype="bfloat16", remat="full") == PHI4_REASONING


def test_phi_4_has_14_659_507_200_parameters():
    assert PHI4.num_params == 14_659_507_200


def test_phi_4_mini_counts_its_tied_embeddings_once():
    # 200064 * 3072 + 32 * (3072 * 128 * (24 + 24 + 8 + 8) + 3 * 3072 * 8192 + 2 * 3072) + 3072
    assert ModelConfig.from_hf(MINI_JSON).num_params == 3_836_021_760


def test_the_cache_of_phi_4_takes_200_kib_a_token_and_6_25_gib_for_a_row_of_32k():
    assert PHI4.kv_cache_bytes(1) == 200 * 1024
    assert PHI4.kv_cache_bytes(32768) == 6.25 * 2**30


def test_a_token_of_a_32k_row_costs_85_gflop_for_parameters_and_40_for_causal_attention():
    length = 32768
    total = PHI4.train_flops(length, length * (length + 1) // 2)
    parameters = PHI4.train_flops(length, 0)
    assert parameters / length / 1e9 == pytest.approx(84.9, abs=0.05)
    assert (total - parameters) / length / 1e9 == pytest.approx(40.3, abs=0.05)


def test_the_longrope_fields_of_phi_4_mini_are_read():
    config = ModelConfig.from_hf(MINI_JSON)
    assert (config.head_dim, config.rotary_dim, config.tied_embeddings) == (128, 96, True)
    assert config.longrope == LongRope(
        tuple(MINI_FACTORS["short_factor"]), tuple(MINI_FACTORS["long_factor"]), original_max_positions=4096
    )


@pytest.mark.parametrize("original", [PHI4_JSON, MINI_JSON], ids=["phi-4", "phi-4-mini"])
def test_the_new_spelling_of_the_rope_fields_reads_the_same(original):
    old = dict(original)
    scaling = old.pop("rope_scaling") or {}
    rope = {
        "rope_type": scaling.get("type", "default"),
        "rope_theta": old.pop("rope_theta"),
        "partial_rotary_factor": old.pop("partial_rotary_factor", 1.0),
        **{key: scaling[key] for key in ("short_factor", "long_factor") if key in scaling},
    }
    if scaling:
        rope["original_max_position_embeddings"] = old.pop("original_max_position_embeddings")
    assert ModelConfig.from_hf({**old, "rope_parameters": rope}) == ModelConfig.from_hf(original)


@pytest.mark.parametrize("original", [PHI4_JSON, MINI_JSON], ids=["phi-4", "phi-4-mini"])
def test_what_is_written_to_config_json_is_read_back(original):
    config = ModelConfig.from_hf(original)
    assert ModelConfig.from_hf(config.to_hf()) == config
    written = config.to_hf()
    assert {key: written[key] for key in original if key not in ("rope_scaling", "torch_dtype")} == {
        key: value for key, value in original.items() if key not in ("rope_scaling", "torch_dtype")
    }


@pytest.mark.parametrize("original", [PHI4_JSON, MINI_JSON], ids=["phi-4", "phi-4-mini"])
def test_the_reference_understands_what_is_written(original):
    transformers = pytest.importorskip("transformers")
    config = ModelConfig.from_hf(original)
    theirs = transformers.Phi3Config(**config.to_hf())
    assert ModelConfig.from_hf(theirs.to_dict()) == config


def test_a_head_dim_that_does_not_follow_from_the_width_is_read_and_written():
    config = ModelConfig.from_hf({**PHI4_JSON, "head_dim": 64})
    assert config.head_dim == 64
    assert config.to_hf()["head_dim"] == 64
    assert "head_dim" not in PHI4.to_hf()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "qwen2"}, "model_type 'qwen2'"),
        ({"model_type": None}, "model_type None"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0, "mscale": 0.7}}, "yarn mscale"),
        ({"rope_scaling": {"type": "dynamic", "factor": 4.0}}, "rope.scaling=ntk"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "llama3"),
        ({"num_key_value_heads": 12}, "num_kv_heads=12"),
        ({"rope_scaling": {"type": "longrope", "short_factor": [1.0] * 3, "long_factor": [1.0] * 3}}, "64"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_would_be_computed_wrongly_is_refused_in_one_line(changes, message):
    with pytest.raises(UserError, match=message) as refusal:
        ModelConfig.from_hf({**PHI4_JSON, **changes})
    assert "\n" not in str(refusal.value)


def test_a_llama_is_read_and_has_no_window():
    llama = {**PHI4_JSON, "model_type": "llama", "num_key_value_heads": None, "sliding_window": 4096}
    config = ModelConfig.from_hf(llama)
    assert (config.num_kv_heads, config.sliding_window) == (40, None)


def test_a_config_is_hashable_and_replace_leaves_the_original():
    longer = PHI4.replace(max_positions=32768)
    assert hash(longer) != hash(PHI4)
    assert PHI4.max_positions == 16384
    assert {PHI4: 1}[PHI4.replace()] == 1
