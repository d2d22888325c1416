import dataclasses

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from phi4r.checkpoint.hf_files import parse_config, read_json
from phi4r.checkpoint.hf_layout import hf_leaves, leaf_dtypes, tensor_shapes
from phi4r.checkpoint.safetensors_reader import SafetensorsFolder
from phi4r.checkpoint.shards import TensorSpec
from phi4r.errors import UserError
from phi4r.model.config import PHI4, ModelConfig
from phi4r.model.transformer import abstract_params

TINY = ModelConfig(vocab_size=7, num_layers=2, embed_dim=6, num_heads=4, num_kv_heads=2, head_dim=4, mlp_dim=5)


def numbered_tensors(leaves):
    """Tensors in which every element has its own value."""
    tensors, start = {}, 0
    for name, shape in tensor_shapes(leaves).items():
        size = int(np.prod(shape))
        tensors[name] = np.arange(start, start + size, dtype=np.float64).reshape(shape)
        start += size
    return tensors


def read_all(leaves, tensors):
    """Every leaf from its tensors."""
    stacks = {leaf.path: np.stack([leaf.from_tensor(tensors[name]) for name in leaf.names]) for leaf in leaves}
    return {leaf.path: stacks[leaf.path].reshape(leaf.shape) for leaf in leaves}


def test_phi4_has_243_tensors_and_14659507200_parameters():
    shapes = tensor_shapes(hf_leaves(PHI4, fused=True))
    assert len(shapes) == 243
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 14_659_507_200
    assert shapes["model.layers.39.self_attn.qkv_proj.weight"] == (7680, 5120)
    assert shapes["model.layers.0.mlp.gate_up_proj.weight"] == (35840, 5120)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_leaves_are_those_of_the_model(tied, fused):
    config = TINY.replace(tied_embeddings=tied)
    of_model = {path: leaf.shape for path, leaf in flatten_dict(abstract_params(config), sep="/").items()}
    assert {leaf.path: leaf.shape for leaf in hf_leaves(config, fused=fused)} == of_model


def test_every_element_of_a_fused_tensor_lies_where_the_reference_says():
    leaves = hf_leaves(TINY, fused=True)
    tensors = numbered_tensors(leaves)
    ours = read_all(leaves, tensors)
    for layer in range(TINY.num_layers):
        qkv = tensors[f"model.layers.{layer}.self_attn.qkv_proj.weight"]
        o = tensors[f"model.layers.{layer}.self_attn.o_proj.weight"]
        gate_up = tensors[f"model.layers.{layer}.mlp.gate_up_proj.weight"]
        for d in range(6):
            for h in range(4):
                for n in range(4):  # query head n is number n % 2 of KV head n // 2
                    assert ours["layers/attn/q"][layer, d, n // 2, n % 2, h] == qkv[n * 4 + h, d]
                    assert ours["layers/attn/o"][layer, n // 2, n % 2, h, d] == o[d, n * 4 + h]
                for k in range(2):
                    assert ours["layers/attn/k"][layer, d, k, h] == qkv[16 + k * 4 + h, d]
                    assert ours["layers/attn/v"][layer, d, k, h] == qkv[24 + k * 4 + h, d]
            for f in range(5):
                assert ours["layers/mlp/gate"][layer, d, f] == gate_up[f, d]
                assert ours["layers/mlp/up"][layer, d, f] == gate_up[5 + f, d]
    np.testing.assert_array_equal(ours["lm_head"], tensors["lm_head.weight"].T)


@pytest.mark.parametrize("fused", [False, True])
def test_rows_are_the_inverse_of_reading(fused):
    leaves = hf_leaves(TINY, fused=fused)
    tensors = numbered_tensors(leaves)
    for leaf in leaves:
        for name in leaf.names:
            rows = leaf.to_rows(leaf.from_tensor(tensors[name]))
            np.testing.assert_array_equal(rows, tensors[name][leaf.first_row : leaf.first_row + len(rows)])


@pytest.fixture
def specs():
    shapes = tensor_shapes(hf_leaves(TINY, fused=True))
    return {name: TensorSpec(shape, np.dtype(np.float32)) for name, shape in shapes.items()}


def check(specs):
    return leaf_dtypes(hf_leaves(TINY, fused=True), specs, "FOLDER")


def test_a_key_too_few_too_many_or_of_another_shape_is_named(specs):
    assert set(check(specs).values()) == {np.dtype(np.float32)}
    name = "model.layers.1.self_attn.o_proj.weight"
    few = {key: spec for key, spec in specs.items() if key != name}
    with pytest.raises(UserError, match=f"FOLDER lacks tensor {name}"):
        check(few)
    with pytest.raises(UserError, match=r"FOLDER holds tensor model\.layers\.2\.input_layernorm\.weight"):
        check({**specs, "model.layers.2.input_layernorm.weight": specs["model.norm.weight"]})
    with pytest.raises(UserError, match=rf"tensor {name} has shape \(16, 6\), not \(6, 16\)"):
        check({**specs, name: TensorSpec((16, 6), np.dtype(np.float32))})


def test_a_layer_of_another_dtype_is_named(specs):
    name = "model.layers.1.input_layernorm.weight"
    with pytest.raises(UserError, match=f"tensor {name} is float16, but model.layers.0.input_layernorm.weight"):
        check({**specs, name: dataclasses.replace(specs[name], dtype=np.dtype(np.float16))})


def test_a_tied_model_must_not_store_a_head(specs):
    with pytest.raises(UserError, match=r"holds tensor lm_head\.weight"):
        leaf_dtypes(hf_leaves(TINY.replace(tied_embeddings=True), fused=True), specs, "FOLDER")


def test_tensor_shapes_of_every_family_member_are_those_of_transformers(hf_folder, family_member):
    folder = hf_folder(family_member)
    config = parse_config(read_json(folder / "config.json"), folder)
    shapes = tensor_shapes(hf_leaves(config, fused=not family_member.startswith("llama")))
    stored = SafetensorsFolder(folder).specs
    assert shapes == {name: spec.shape for name, spec in stored.items()}
