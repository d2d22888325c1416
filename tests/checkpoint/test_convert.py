import json
import shutil
import tracemalloc

import jax
import numpy as np
import pytest
from safetensors import safe_open

from phi4r.checkpoint import convert, params_store
from phi4r.checkpoint.hf_layout import hf_leaves
from phi4r.checkpoint.hf_weights import write_weights
from phi4r.checkpoint.shards import DTYPES
from phi4r.errors import UserError
from phi4r.model.config import ModelConfig


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


def test_no_more_than_a_few_leaves_are_in_memory(tmp_path):
    config = ModelConfig(
        vocab_size=64, num_layers=24, embed_dim=256, num_heads=8, num_kv_heads=8, head_dim=32, mlp_dim=320
    )
    leaves = hf_leaves(config, fused=True)
    source = tmp_path / "source"
    source.mkdir()
    dtypes = dict.fromkeys([leaf.path for leaf in leaves], DTYPES["F32"])
    write_weights(source, leaves, dtypes, lambda leaf: np.ones(leaf.shape, np.float32), layout=None, stage="make")
    (source / "config.json").write_text(json.dumps(config.to_hf()))
    total = sum(int(np.prod(leaf.shape)) * 4 for leaf in leaves)
    largest = max(int(np.prod(leaf.shape)) * 4 for leaf in leaves)
    assert largest * 6 < total

    def peak_of(function, *args):
        tracemalloc.start()
        function(*args)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    overhead = 2**21  # code objects and bookkeeping
    assert peak_of(convert.hf_to_orbax, source, tmp_path / "orbax") < 2 * largest + overhead
    assert peak_of(convert.orbax_to_hf, tmp_path / "orbax", tmp_path / "back") < 2 * largest + overhead
    assert weights(tmp_path / "back") == weights(source)


def test_an_orbax_checkpoint_is_an_ordinary_orbax_tree(hf_folder, tmp_path):
    import orbax.checkpoint.experimental.v1 as ocp

    convert.hf_to_orbax(hf_folder(), tmp_path / "orbax")
    tree = ocp.load(tmp_path / "orbax" / "params")
    assert tree["layers"]["attn"]["q"].shape == (3, 40, 20, 2)
    with safe_open(next(hf_folder().glob("model-00001-*.safetensors")), framework="numpy") as file:
        if "model.embed_tokens.weight" in file.keys():  # noqa: SIM118
            np.testing.assert_array_equal(tree["embedding"], file.get_tensor("model.embed_tokens.weight"))


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


def test_a_conversion_that_dies_midway_leaves_nothing(hf_folder, tmp_path, monkeypatch):
    written = []
    real = params_store.ocp.partial.save

    def fail_at_the_fourth(path, state):
        written.append(state)
        if len(written) == 4:
            raise OSError(28, "No space left on device")
        real(path, state)

    monkeypatch.setattr(params_store.ocp.partial, "save", fail_at_the_fourth)
    with pytest.raises(UserError, match="the disk is full"):
        convert.hf_to_orbax(hf_folder(), tmp_path / "orbax")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_destination_is_kept(hf_folder, tmp_path):
    (tmp_path / "orbax").mkdir()
    (tmp_path / "orbax" / "mine").write_text("x")
    with pytest.raises(UserError, match="exists already"):
        convert.hf_to_orbax(hf_folder(), tmp_path / "orbax")
    assert [path.name for path in (tmp_path / "orbax").iterdir()] == ["mine"]


def test_a_damaged_orbax_checkpoint_is_one_line(hf_folder, tmp_path):
    convert.hf_to_orbax(hf_folder(), tmp_path / "orbax")
    for path in (tmp_path / "orbax" / "params").rglob("d/*"):
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
