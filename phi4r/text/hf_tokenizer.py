"""A Hugging Face `tokenizer.json`, through the library `tokenizers`."""

import functools
from collections.abc import Sequence
from pathlib import Path

from phi4r.errors import UserError
from phi4r.text.byte_level import token_bytes
from phi4r.text.special_tokens import SpecialToken, SpecialTokenizer


class HfTokenizer(SpecialTokenizer):
    """The tokenizer of a folder with `tokenizer.json`; see `phi4r.text.tokenizer.Tokenizer`."""

    def __init__(self, folder: Path):
        """Loads `tokenizer.json` and reads the roles of the special tokens from the files beside it.

        Raises:
          UserError: where a file cannot be read.
        """
        import tokenizers

        path = folder / "tokenizer.json"
        try:
            self._whole = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise UserError(f"{path} is not a tokenizer file ({error}); download it again.") from error
        self._whole.no_truncation()
        self._whole.no_padding()
        # The library always parses added tokens that it does not hold for special, so plain text goes through a
        # tokenizer that has none at all.
        self._plain = tokenizers.Tokenizer(self._whole.model)
        for stage in ("normalizer", "pre_tokenizer"):
            if (value := getattr(self._whole, stage)) is not None:
                setattr(self._plain, stage, value)
        added = self._whole.get_added_tokens_decoder()
        self._control_ids = {index for index, token in added.items() if token.special}
        tokens = [
            SpecialToken(
                token.content,
                index,
                is_control=token.special,
                strips_left=token.lstrip,
                strips_right=token.rstrip,
            )
            for index, token in sorted(added.items())
        ]
        super().__init__(folder, tokens, vocab_size=max(self._whole.get_vocab().values()) + 1)

    def decode(self, ids: Sequence[int], *, skip_specials: bool = False) -> str:
        """Returns the text of `ids`; ids beyond the vocabulary (padded rows of an embedding) give nothing.

        Of a byte-level vocabulary the bytes are joined here, in a third of the time that the library takes: responses
        have tens of thousands of tokens.
        """
        if self._bytes is None:
            return self._whole.decode(list(ids), skip_special_tokens=skip_specials)
        if skip_specials:
            ids = [index for index in ids if index not in self._control_ids]
        try:
            content = b"".join(map(self._bytes.__getitem__, ids))
        except IndexError:
            content = b"".join(self._bytes[index] for index in ids if index < self.vocab_size)
        return content.decode(errors="replace")

    @functools.cached_property
    def _bytes(self) -> list[bytes] | None:
        """The bytes of every id of a byte-level vocabulary; None for a vocabulary of another kind."""
        import tokenizers

        if not isinstance(self._whole.decoder, tokenizers.decoders.ByteLevel):
            return None
        return [token_bytes(self._whole.id_to_token(index) or "") for index in range(self.vocab_size)]

    def _encode_plain(self, text: str) -> list[int]:
        return self._plain.encode(text, add_special_tokens=False).ids

    def _piece_id(self, token: str) -> int | None:
        return self._whole.token_to_id(token)
