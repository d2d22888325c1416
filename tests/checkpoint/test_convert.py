import hashlib
import json
import shutil
import tracemalloc

import jax
import numpy as np
import orbax.checkpoint as orbax
import orbax.checkpoint.experimental.v1 as orbax_v1
import pytest
from safetensors import safe_open

from phi4r.checkpoint import convert, copying, params_store, pieces
from phi4r.checkpoint.hf_layout import hf_leaves
from phi4r.checkpoint.release import load_hf_folder
from phi4r.errors import UserError
from phi4r.model.config import ModelConfig
from phi4r.model.transformer import param_axes
from phi4r.sharding import MeshSettings, make_mesh, param_shardings
from tests.checkpoint.conftest import write_random_folder


def weights(folder):
    """Every tensor of a folder as raw bytes with dtype and shape, read by the reference library."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118, the file is no mapping
                array = file.get_tensor(name)
                found[name] = (str(array.dtype), array.shape, array.tobytes())
    return found


def round_trip(source, work):
    convert.hf_to_orbax(source, work / "orbax")
    convert.orbax_to_hf(work / "orbax", work / "hf")
    return work / "hf"


def test_round_trip_gives_back_every_tensor_and_every_file(hf_folder, family_member, tmp_path):
    source = hf_folder(family_member)
    back = round_trip(source, tmp_path)
    assert weights(back) == weights(source)
    names = {path.name for path in source.iterdir()}
    assert len([name for name in names if name.endswith(".safetensors")]) > 2
    assert {"config.json", "generation_config.json", "chat_template.jinja", "tokenizer_config.json"} < names
    assert {path.name for path in back.iterdir()} == names
    for name in names:
        assert (back / name).read_bytes() == (source / name).read_bytes(), name


def test_round_trip_in_float32_and_one_file(tmp_path, hf_folder):
    source = tmp_path / "source"
    shutil.copytree(hf_folder("phi-4", "float32"), source)
    pytest.importorskip("transformers").Phi3ForCausalLM.from_pretrained(source).save_pretrained(tmp_path / "single")
    assert (tmp_path / "single" / "model.safetensors").is_file()
    back = round_trip(tmp_path / "single", tmp_path)
    assert (back / "model.safetensors").read_bytes() == (tmp_path / "single" / "model.safetensors").read_bytes()
    assert not (back / "model.safetensors.index.json").exists()


def test_values_that_are_not_numbers_survive(hf_folder, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(hf_folder(), source)
    path = next(source.glob("model-00001-*.safetensors"))
    raw = path.read_bytes()
    path.write_bytes(raw[:-8] + bytes.fromhex("ff7f80ff017f807f"))  # NaNs with payload and infinities, in bfloat16
    assert weights(round_trip(source, tmp_path)) == weights(source)


def test_dtype_is_stored_in_weights_and_config(hf_folder, tmp_path):
    source = hf_folder()
    convert.hf_to_orbax(source, tmp_path / "orbax", dtype="float32")
    convert.orbax_to_hf(tmp_path / "orbax", tmp_path / "wide")
    convert.orbax_to_hf(tmp_path / "orbax", tmp_path / "narrow", dtype="bfloat16")
    assert {dtype for dtype, _, _ in weights(tmp_path / "wide").values()} == {"float32"}
    assert json.loads((tmp_path / "wide" / "config.json").read_text())["dtype"] == "float32"
    index = json.loads((tmp_path / "wide" / "model.safetensors.index.json").read_text())
    original = json.loads((source / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 2 * original["metadata"]["total_size"]
    assert weights(tmp_path / "narrow") == weights(source)  # bfloat16 -> float32 -> bfloat16 is exact
    assert (tmp_path / "narrow" / "config.json").read_text() == (source / "config.json").read_text()


def test_only_a_few_pieces_are_in_memory(tmp_path, monkeypatch):
    config = ModelConfig(
        vocab_size=64, num_layers=24, embed_dim=256, num_heads=8, num_kv_heads=4, head_dim=32, mlp_dim=320
    )
    write_random_folder(tmp_path / "source", config)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 2**16)
    largest_leaf = 24 * 256 * 320 * 4

    def peak_of(function, *args):
        tracemalloc.start()
        function(*args)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    overhead = 2**21  # code objects and bookkeeping
    several = (2 * copying.READ_AHEAD + 2 * copying.WRITERS) * 2**16
    assert several + overhead < largest_leaf / 2
    assert peak_of(convert.hf_to_orbax, tmp_path / "source", tmp_path / "orbax") < several + overhead
    assert peak_of(convert.orbax_to_hf, tmp_path / "orbax", tmp_path / "back") < several + overhead
    assert weights(tmp_path / "back") == weights(tmp_path / "source")


@pytest.mark.parametrize("interface", ["experimental", "classic", "classic on a mesh"])
def test_an_orbax_checkpoint_is_an_ordinary_orbax_tree(hf_folder, tmp_path, interface):
    convert.hf_to_orbax(hf_folder(), tmp_path / "orbax")
    config, expected = load_hf_folder(hf_folder())
    if interface == "experimental":
        tree = orbax_v1.load(tmp_path / "orbax" / "params")
    else:
        mesh = make_mesh(MeshSettings(fsdp=8))
        shardings = param_shardings(mesh, param_axes(config), expected)
        wanted = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), expected, shardings)
        target = (wanted,) if interface == "classic on a mesh" else ()
        with orbax.StandardCheckpointer() as checkpointer:
            tree = checkpointer.restore(tmp_path / "orbax" / "params", *target)
    jax.tree.map(lambda ours, theirs: np.testing.assert_array_equal(np.asarray(ours), theirs), tree, expected)


def test_relative_paths_are_taken_from_the_working_folder(hf_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    convert.hf_to_orbax(hf_folder(), "orbax")
    convert.orbax_to_hf("orbax", "hf")
    assert weights(tmp_path / "hf") == weights(hf_folder())


# Bad input: one line, and nothing half-written


def damage_config(folder):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "model_type": "mixtral"}))


def lose_shard(folder):
    next(folder.glob("model-00002-*")).unlink()


def cut_shard(folder):
    path = next(folder.glob("model-00002-*"))
    path.write_bytes(path.read_bytes()[:-1])


def one_layer_less(folder):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "num_hidden_layers": 2}))


def one_layer_more(folder):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "num_hidden_layers": 4}))


def forget_width(folder):
    values = json.loads((folder / "config.json").read_text())
    del values["hidden_size"]
    (folder / "config.json").write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_config, "model_type 'mixtral'"),
        (lose_shard, r"model-00002-of-000\d\d\.safetensors is missing"),
        (cut_shard, r"model-00002-of-000\d\d\.safetensors is truncated"),
        (one_layer_less, r"holds tensor model\.layers\.2\."),
        (one_layer_more, r"lacks tensor model\.layers\.3\."),
        (forget_width, r"config\.json lacks the field 'hidden_size'"),
        (lambda folder: (folder / "config.json").unlink(), r"config\.json is missing"),
        (lambda folder: (folder / "config.json").write_text("{"), r"config\.json is not a JSON object"),
    ],
)
def test_a_damaged_source_is_one_line_and_leaves_nothing(hf_folder, tmp_path, damage, message):
    source = tmp_path / "source"
    shutil.copytree(hf_folder(), source)
    damage(source)
    with pytest.raises(UserError, match=message) as caught:
        convert.hf_to_orbax(source, tmp_path / "orbax")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_damaged_tensor_is_named_on_the_way_back(hf_folder, tmp_path):
    convert.hf_to_orbax(hf_folder(), tmp_path / "orbax")
    config, _ = load_hf_folder(hf_folder())
    leaves = hf_leaves(config, fused=True)
    store = params_store.ParamsFolder(tmp_path / "orbax", leaves)
    piece = pieces.tensor_pieces(leaves, store.dtypes)["model.layers.1.mlp.gate_up_proj.weight"][-1]
    rows = store.read_rows(piece)
    rows[3, 5] += 1
    store.write_rows(piece, rows)  # whole files with a right CRC: only the checksum of the tensor tells
    with pytest.raises(UserError, match=r"tensor model\.layers\.1\.mlp\.gate_up_proj\.weight is damaged") as caught:
        convert.orbax_to_hf(tmp_path / "orbax", tmp_path / "hf")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["orbax"]


def test_the_manifest_holds_the_checksums_of_the_safetensors(hf_folder, tmp_path):
    convert.hf_to_orbax(hf_folder(), tmp_path / "orbax")
    manifest = json.loads((tmp_path / "orbax" / "safetensors_manifest.json").read_text())
    expected = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "shape": list(shape), "dtype": dtype}
        for name, (dtype, shape, data) in weights(hf_folder()).items()
    }
    assert manifest == expected


def lose_entry(folder):
    values = json.loads((folder / "safetensors_manifest.json").read_text())
    del values["model.norm.weight"]
    (folder / "safetensors_manifest.json").write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "safetensors_manifest.json").unlink(), r"safetensors_manifest\.json is missing"),
        (lose_entry, r"does not describe tensor model\.norm\.weight"),
        (lambda folder: (folder / "params" / "layers.mlp.up" / "c" / "1" / "0" / "0").unlink(), "cannot be read"),
        (lambda folder: shutil.rmtree(folder / "params" / "layers.mlp.up"), "layers/mlp/up is stored as no such array"),
    ],
)
def test_an_incomplete_orbax_checkpoint_is_one_line(hf_folder, tmp_path, damage, message):
    convert.hf_to_orbax(hf_folder(), tmp_path / "orbax")
    damage(tmp_path / "orbax")
    with pytest.raises(UserError, match=message) as caught:
        convert.orbax_to_hf(tmp_path / "orbax", tmp_path / "hf")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["orbax"]


def test_an_existing_destination_is_kept(hf_folder, tmp_path):
    (tmp_path / "orbax").mkdir()
    (tmp_path / "orbax" / "mine").write_text("x")
    with pytest.raises(UserError, match="exists already"):
        convert.hf_to_orbax(hf_folder(), tmp_path / "orbax")
    assert [path.name for path in (tmp_path / "orbax").iterdir()] == ["mine"]


def test_a_damaged_orbax_checkpoint_is_one_line(hf_folder, tmp_path):
    convert.hf_to_orbax(hf_folder(), tmp_path / "orbax")
    for path in (tmp_path / "orbax" / "params").rglob("0"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match=r"params cannot be read \(.*convert or copy it again") as caught:
        convert.orbax_to_hf(tmp_path / "orbax", tmp_path / "hf")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["orbax"]


def test_an_orbax_checkpoint_of_another_shape_is_one_line(hf_folder, tmp_path):
    convert.hf_to_orbax(hf_folder(), tmp_path / "orbax")
    one_layer_less(tmp_path / "orbax")
    with pytest.raises(UserError, match=r"parameter layers/\S+ is stored as \(3, .*asks for \(2, "):
        convert.orbax_to_hf(tmp_path / "orbax", tmp_path / "hf")


def test_a_folder_that_is_no_checkpoint_is_named(hf_folder, tmp_path):
    with pytest.raises(UserError, match="has no params folder"):
        convert.orbax_to_hf(hf_folder(), tmp_path / "hf")


def test_conversion_needs_no_device(hf_folder, tmp_path):
    before = len(jax.live_arrays())
    convert.hf_to_orbax(hf_folder(), tmp_path / "orbax")
    assert len(jax.live_arrays()) == before
