import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phi4r.checkpoint import convert, mesh_loading, pieces
from phi4r.checkpoint.params_store import ParamsFolder
from phi4r.checkpoint.release import load_hf_folder, load_model, load_params, save_hf_folder, save_params
from phi4r.checkpoint.safetensors_reader import SafetensorsFolder
from phi4r.errors import UserError
from phi4r.model.config import ModelConfig
from phi4r.model.transformer import Transformer, abstract_params, init_params
from phi4r.sharding import MeshSettings, make_mesh

CONFIG = ModelConfig(vocab_size=64, num_layers=2, embed_dim=32, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=48)


def assert_equal(ours, theirs):
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), ours, theirs)


@pytest.mark.parametrize("member", ["phi-4", "phi-4-mini", "llama-tied", "llama-wide-heads"])
def test_a_loaded_folder_computes_what_transformers_computes(hf_folder, member):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = hf_folder(member, "float32")
    tokens = np.random.default_rng(0).integers(2, 151, (2, 9))
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = reference(torch.tensor(tokens)).logits.numpy()
    config, params = load_hf_folder(folder)
    assert (config.dtype, config.param_dtype) == ("float32", "float32")
    model = Transformer(config)
    positions = np.broadcast_to(np.arange(9, dtype=np.int32), (2, 9))
    hidden, _ = model.apply({"params": params}, jnp.asarray(tokens, jnp.int32), jnp.ones((2, 9), jnp.int32), positions)
    logits = model.apply({"params": params}, hidden, method="unembed")
    np.testing.assert_allclose(logits, expected, atol=2e-4 * np.abs(expected).max())


def test_the_tree_is_that_of_the_model(hf_folder, family_member):
    config, params = load_hf_folder(hf_folder(family_member))
    assert config.param_dtype == "bfloat16"
    assert jax.tree.map(lambda x: (x.shape, x.dtype), params) == jax.tree.map(
        lambda x: (x.shape, x.dtype), abstract_params(config)
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Random parameters of CONFIG, their Hugging Face folder and their params checkpoint."""
    root = tmp_path_factory.mktemp("release")
    params = jax.jit(init_params, static_argnums=0)(CONFIG, jax.random.key(3))
    save_hf_folder(root / "hf", params, config=CONFIG, hf_fields={"eos_token_id": 7})
    (root / "hf" / "tokenizer.json").write_text("{}")
    convert.hf_to_orbax(root / "hf", root / "orbax")
    return root, params


@pytest.mark.parametrize("form", ["hf", "orbax"])
@pytest.mark.parametrize(
    "settings", [MeshSettings(fsdp=8), MeshSettings(fsdp=2, tensor=4), MeshSettings(data=2, fsdp=1, tensor=4)]
)
def test_a_model_loads_straight_onto_any_mesh(made, form, settings):
    root, params = made
    loaded = load_model(root / form, mesh=make_mesh(settings))
    assert loaded.folder == root / form and (loaded.folder / "tokenizer.json").is_file()
    assert loaded.config == CONFIG
    assert_equal(loaded.params, params)
    down = loaded.params["layers"]["mlp"]["down"]
    assert down.sharding.shard_shape(down.shape) == (2, 48 // settings.tensor, 32 // settings.fsdp)


@pytest.mark.parametrize("form", ["hf", "orbax"])
def test_no_device_holds_more_than_its_share(made, form):
    root, params = made
    loaded = load_model(root / form, mesh=make_mesh(MeshSettings(fsdp=8)))
    held = dict.fromkeys(jax.devices(), 0)
    for leaf in jax.tree.leaves(loaded.params):
        for shard in leaf.addressable_shards:
            held[shard.device] += shard.data.nbytes
    total = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    norms = (2 * CONFIG.num_layers + 1) * CONFIG.embed_dim * 4  # whole on every device
    assert max(held.values()) <= (total - norms) / 8 + norms


@pytest.mark.parametrize("source", [SafetensorsFolder, ParamsFolder])
@pytest.mark.parametrize("settings", [MeshSettings(fsdp=8), MeshSettings(data=4, fsdp=2)])
def test_what_devices_hold_is_read_once_and_nothing_else(made, monkeypatch, source, settings):
    root, params = made
    read = []
    real = source.read_part

    def counting(self, *args):
        out = real(self, *args)
        read.append(out.nbytes)
        return out

    monkeypatch.setattr(source, "read_part", counting)
    load_model(root / ("hf" if source is SafetensorsFolder else "orbax"), mesh=make_mesh(settings))
    assert sum(read) == sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    largest = max(leaf.nbytes for leaf in jax.tree.leaves(params))
    assert max(read) <= largest // settings.fsdp


@pytest.mark.parametrize("form", ["hf", "orbax"])
@pytest.mark.parametrize("piece_bytes", [1, 6000])
def test_a_few_layers_at_a_time_give_the_same_parameters(hf_folder, tmp_path, monkeypatch, form, piece_bytes):
    source = hf_folder("phi-4")
    _, expected = load_model(source)[:2]
    monkeypatch.setattr(pieces, "PIECE_BYTES", piece_bytes)
    monkeypatch.setattr(mesh_loading, "PIECE_BYTES", piece_bytes)
    if form == "orbax":
        convert.hf_to_orbax(source, tmp_path / "orbax")
        source = tmp_path / "orbax"
    for mesh in (None, make_mesh(MeshSettings(fsdp=4, tensor=2))):
        assert_equal(load_model(source, mesh=mesh).params, expected)


@pytest.mark.parametrize("form", ["hf", "orbax"])
def test_loaded_parameters_can_be_donated(made, form):
    root, _ = made
    params = load_model(root / form, mesh=make_mesh(MeshSettings(fsdp=8))).params
    leaf = params["layers"]["mlp"]["down"]
    before = [shard.data.unsafe_buffer_pointer() for shard in leaf.addressable_shards]
    after = jax.jit(lambda x: x * 2, donate_argnums=0)(leaf)
    assert [shard.data.unsafe_buffer_pointer() for shard in after.addressable_shards] == before


def test_dtype_and_config_choose_the_numerics(made):
    root, params = made
    narrow = load_model(root / "orbax", dtype="bfloat16")
    assert (narrow.config.dtype, narrow.config.param_dtype) == ("bfloat16", "bfloat16")
    assert_equal(narrow.params, jax.tree.map(lambda x: x.astype(jnp.bfloat16), params))
    mixed, loaded = load_hf_folder(root / "hf", config=CONFIG.replace(dtype="bfloat16", remat="full"))
    assert (mixed.dtype, mixed.param_dtype, mixed.remat) == ("bfloat16", "float32", "full")
    assert_equal(loaded, params)


@pytest.mark.parametrize("load", [load_hf_folder, load_params])
def test_a_config_of_another_shape_is_refused(made, load):
    root, _ = made
    folder = root / ("hf" if load is load_hf_folder else "orbax")
    with pytest.raises(UserError, match="same model"):
        load(folder, config=CONFIG.replace(mlp_dim=64))


def test_transformers_reads_a_saved_folder(made):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    root, params = made
    model = transformers.AutoModelForCausalLM.from_pretrained(root / "hf")
    assert type(model).__name__ == "Phi3ForCausalLM"
    assert (model.config.eos_token_id, model.config.pad_token_id) == (7, None)
    q = np.asarray(params["layers"]["attn"]["q"])[1].reshape(32, 32).T  # [D K Q H] -> rows N H, columns D
    with torch.no_grad():
        np.testing.assert_array_equal(model.model.layers[1].self_attn.qkv_proj.weight[:32].numpy(), q)


def test_load_and_save_give_back_the_same_bytes(hf_folder, family_member, tmp_path):
    source = hf_folder(family_member)
    convert.hf_to_orbax(source, tmp_path / "orbax")
    loaded = load_model(tmp_path / "orbax", mesh=make_mesh(MeshSettings(fsdp=4, tensor=2)))
    save_hf_folder(tmp_path / "hf", loaded.params, config=loaded.config, source_folder=loaded.folder)
    save_params(tmp_path / "again", loaded.params, config=loaded.config, source_folder=loaded.folder)
    convert.orbax_to_hf(tmp_path / "again", tmp_path / "hf2")
    for path in source.iterdir():
        assert (tmp_path / "hf" / path.name).read_bytes() == path.read_bytes(), path.name
        assert (tmp_path / "hf2" / path.name).read_bytes() == path.read_bytes(), path.name


def test_parameters_trained_in_another_dtype_are_said_to_be_so(hf_folder, tmp_path):
    source = hf_folder()
    loaded = load_model(source, dtype="float32")
    save_hf_folder(tmp_path / "hf", loaded.params, config=loaded.config, source_folder=source)
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert config["dtype"] == "float32" and config["eos_token_id"] == 1
    assert load_model(tmp_path / "hf").config.param_dtype == "float32"
    save_hf_folder(tmp_path / "half", loaded.params, config=loaded.config, source_folder=source, dtype="bfloat16")
    assert (tmp_path / "half" / "config.json").read_text() == (source / "config.json").read_text()


def test_a_source_folder_of_another_model_is_refused_and_nothing_written(made, tmp_path):
    root, params = made
    source = tmp_path / "source"
    shutil.copytree(root / "hf", source)
    values = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**values, "rope_theta": 5e5}))
    with pytest.raises(UserError, match=r"rope_theta=10000\.0, but config\.json of the source folder says 500000\.0"):
        save_hf_folder(tmp_path / "out", params, config=CONFIG, source_folder=source)
    with pytest.raises(UserError, match="is not a folder"):
        save_params(tmp_path / "out", params, config=CONFIG, source_folder=tmp_path / "nowhere")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_taken_destination_is_kept(made, tmp_path):
    _, params = made
    (tmp_path / "mine").write_text("x")
    for save in (save_hf_folder, save_params):
        with pytest.raises(UserError, match="exists already"):
            save(tmp_path, params, config=CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_damaged_data_are_one_line(made, tmp_path):
    root, _ = made
    shutil.copytree(root / "orbax", tmp_path / "orbax")
    for path in (tmp_path / "orbax" / "params").rglob("0"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match="params cannot be read") as caught:
        load_model(tmp_path / "orbax", mesh=make_mesh(MeshSettings(fsdp=8)))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"config\.json is missing"):
        load_model(tmp_path)
