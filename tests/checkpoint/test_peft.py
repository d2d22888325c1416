"""Adapter folders against PEFT itself, on tiny random models of the family."""

import functools
import json

import jax
import numpy as np
import pytest

from phi4r.checkpoint.peft import save_peft_folder
from phi4r.checkpoint.release import load_hf_folder, save_hf_folder
from phi4r.errors import UserError
from phi4r.model.inputs import make_token_batch
from phi4r.model.lora import Lora, init_adapter, join_adapter, split_adapter
from phi4r.model.merge import merge_adapter
from phi4r.model.transformer import Transformer, abstract_params

TARGETS = {
    "phi-4": ("qkv", "o", "gate_up", "down"),
    "phi-4-mini": ("qkv", "down"),
    "llama-wide-heads": ("qkv", "o", "gate_up", "down"),
}


def trained(config):
    """Adapters of which no part is zero."""
    adapter = init_adapter(split_adapter(abstract_params(config))[1], jax.random.key(0))
    return jax.tree.map(lambda x: x + 0.2 * jax.random.normal(jax.random.key(x.size), x.shape), adapter)


def our_logits(config, params, tokens):
    batch = make_token_batch(tokens, np.ones_like(tokens), np.ones_like(tokens, bool))

    @jax.jit
    def forward(params):
        model = Transformer(config)
        hidden, _ = model.apply({"params": params}, batch.tokens, batch.segment_ids, batch.positions)
        return model.apply({"params": params}, hidden, method="unembed")

    return np.asarray(forward(params))


@pytest.fixture(params=TARGETS)
def case(request, hf_folder):
    folder = hf_folder(request.param, "float32")
    config, base = load_hf_folder(folder)
    return folder, config.replace(lora=Lora(rank=4, alpha=6.0, targets=TARGETS[request.param])), base


def test_peft_computes_what_we_compute_before_and_after_merging(case, tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    peft = pytest.importorskip("peft")
    folder, config, base = case
    adapter = trained(config)
    save_peft_folder(tmp_path / "adapter", adapter, config=config, base_folder=folder)
    tokens = np.random.default_rng(0).integers(3, 150, (2, 12)).astype(np.int32)
    ours = our_logits(config, join_adapter(base, adapter), tokens)
    plain = our_logits(config.replace(lora=None), base, tokens)
    assert np.abs(ours - plain).max() > 1.0

    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    theirs = peft.PeftModel.from_pretrained(theirs.eval(), tmp_path / "adapter")
    logits = functools.partial(torch_logits, torch, tokens)
    scale = np.abs(ours).max()
    np.testing.assert_allclose(logits(theirs), ours, atol=1e-5 * scale)
    with theirs.disable_adapter():
        np.testing.assert_allclose(logits(theirs), plain, atol=1e-5 * scale)
    merged = theirs.merge_and_unload()
    np.testing.assert_allclose(logits(merged), ours, atol=1e-5 * scale)

    # and our own merged folder, as transformers reads it
    unadapted = config.replace(lora=None)
    save_hf_folder(tmp_path / "hf", merge_adapter(base, adapter, config), config=unadapted, source_folder=folder)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32)
    np.testing.assert_allclose(logits(again.eval()), ours, atol=1e-5 * scale)


def torch_logits(torch, tokens, model):
    with torch.no_grad():
        return model(torch.as_tensor(tokens, dtype=torch.long), use_cache=False).logits.numpy()


def test_the_folder_says_what_it_is(hf_folder, tmp_path):
    folder = hf_folder("phi-4", "float32")
    config = load_hf_folder(folder)[0].replace(lora=Lora(rank=4, alpha=6.0))
    save_peft_folder(tmp_path / "adapter", trained(config), config=config, base_folder=folder)
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    values = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert values["target_modules"] == ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]
    assert (values["r"], values["lora_alpha"], values["peft_type"]) == (4, 6.0, "LORA")
    assert values["base_model_name_or_path"] == str(folder)
    safetensors = pytest.importorskip("safetensors.numpy")
    tensors = safetensors.load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    shapes = {name.split("layers.0.")[1]: x.shape for name, x in tensors.items() if "layers.0." in name}
    assert shapes["self_attn.qkv_proj.lora_A.weight"] == (4, 40)
    assert shapes["self_attn.qkv_proj.lora_B.weight"] == (40 + 2 * 10, 4)
    assert shapes["mlp.gate_up_proj.lora_B.weight"] == (2 * 56, 4)
    assert len(tensors) == 3 * 8  # layers times A and B of four modules


def test_a_taken_folder_is_refused(hf_folder, tmp_path):
    folder = hf_folder("phi-4", "float32")
    config = load_hf_folder(folder)[0].replace(lora=Lora(rank=4, alpha=6.0))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        save_peft_folder(tmp_path, trained(config), config=config, base_folder=folder)
    assert (tmp_path / "file").read_text() == "mine"
