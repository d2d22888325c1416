"""Training a small SentencePiece tokenizer in the Phi-4 format, and the one that ships with the quickstart.

The model is a BPE with byte fallback, so it encodes any text, and has the 96 added tokens of Phi-4 as user-defined
symbols. Nothing is normalised and no space is put in front: decoding gives the text back letter for letter.
"""

import io
import os
import re
from collections.abc import Iterable
from pathlib import Path

from phi4r.errors import UserError
from phi4r.text.files import CONFIG_FILE, TEMPLATE_FILE, to_json, write_files
from phi4r.text.phi4 import ADDED_TOKENS, tokenizer_config
from phi4r.text.template import phi4_template

# Trained with `phi4r tokenizer train` on the corpus beside it, with a vocabulary of 544.
QUICKSTART_MODEL = Path(__file__).parent / "assets" / "quickstart.model"

_FIRST_SYMBOL_ID = 1  # id 0 is <unk>, which byte fallback leaves without a use

# A piece never crosses these units. Each may take the space before it along.
_UNITS = re.compile(
    r" ?\\[a-z]+\{?"  # a LaTeX command with its brace: \boxed{
    r"| ?[-+*/]\d"  # an operation on a digit: +3
    r"| ?\d"  # a digit, so that numbers are spelt digit by digit
    r"| ?[^\W\d_]+"  # a word
    r"| ?[^\w\s]+"  # punctuation
    r"|\s+(?!\S)|\s|_",  # white space that no unit takes
    re.IGNORECASE,
)
_CUT = "\x1f"  # the unit separator of ASCII stands between units while training


def train_sentencepiece(texts: Iterable[str], *, vocab_size: int) -> bytes:
    """Returns a serialised SentencePiece model trained on `texts`; the same texts give the same bytes.

    Args:
      texts: the corpus; lines are trained on apart from each other.
      vocab_size: number of ids in all, with 256 for bytes, 96 for special tokens and one for `<unk>`.

    Raises:
      UserError: where the corpus is empty, or too small or too rich in letters for the vocabulary.
    """
    import sentencepiece

    units = (_CUT.join(_UNITS.findall(line)) for text in texts for line in text.splitlines() if line)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=units,
            model_writer=model,
            vocab_size=vocab_size,
            model_type="bpe",
            byte_fallback=True,
            character_coverage=0.9999,
            user_defined_symbols=list(ADDED_TOKENS),
            pretokenization_delimiter=_CUT,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            split_by_unicode_script=False,
            split_by_number=False,
            max_sentence_length=1 << 20,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise UserError(
            f"cannot train a vocabulary of {vocab_size} on this corpus: {str(error).splitlines()[-1]}; "
            "give more text or another --vocab_size."
        ) from error
    return model.getvalue()


def write_sentencepiece_folder(model: bytes, folder: str | os.PathLike) -> None:
    """Writes tokenizer.model, tokenizer_config.json and the chat template of phi-4 into `folder`.

    Args:
      model: a model of `train_sentencepiece`, such as the content of `QUICKSTART_MODEL`.
      folder: where the files go.

    Raises:
      UserError: where the folder cannot be written.
    """
    config = tokenizer_config(first_id=_FIRST_SYMBOL_ID, tokenizer_class="LlamaTokenizer")
    files = {
        "tokenizer.model": model,
        CONFIG_FILE: to_json(config),
        TEMPLATE_FILE: phi4_template().encode(),
    }
    write_files(folder, files)
