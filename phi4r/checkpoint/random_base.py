"""A base of random weights as a Hugging Face folder: what the quickstart and small sweeps start from.

A real base has read the internet; this one has read nothing, so all that it will know it learns in SFT.
"""

import pathlib
from collections.abc import Callable

import jax

from phi4r.checkpoint.release import save_hf_folder
from phi4r.model.config import ModelConfig
from phi4r.model.transformer import init_params
from phi4r.text.sentencepiece_training import QUICKSTART_MODEL, write_sentencepiece_folder
from phi4r.text.tokenizer import load_tokenizer


def write_random_base(folder: pathlib.Path, config_for: Callable[[int], ModelConfig], *, seed: int) -> None:
    """Writes the model, with the small tokenizer that ships with the package and Phi-4's placeholders in it.

    Args:
      folder: to write; FOLDER_tokenizer beside it has the tokenizer alone.
      config_for: returns the shape of the model for a size of the vocabulary.
      seed: of the weights.
    """
    tokenizer_folder = folder.with_name(folder.name + "_tokenizer")
    write_sentencepiece_folder(QUICKSTART_MODEL.read_bytes(), tokenizer_folder)
    tokenizer = load_tokenizer(tokenizer_folder)
    config = config_for(tokenizer.vocab_size)
    ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
    params = init_params(config, jax.random.key(seed))
    save_hf_folder(folder, params, config=config, source_folder=tokenizer_folder, hf_fields=ids)
