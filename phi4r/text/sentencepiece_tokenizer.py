"""A SentencePiece `tokenizer.model` with byte fallback, whose special tokens are its user-defined symbols."""

from collections.abc import Sequence
from pathlib import Path

from phi4r.errors import UserError
from phi4r.text.files import CONFIG_FILE, read_json
from phi4r.text.special_tokens import SpecialToken, SpecialTokenizer

_SPACE = "\u2581"  # how SentencePiece writes a space inside a piece


class SentencePieceTokenizer(SpecialTokenizer):
    """The tokenizer of a folder with `tokenizer.model`; `decode(encode(text)) == text` for any text."""

    def __init__(self, folder: Path):
        """Loads `tokenizer.model` and reads the roles of the special tokens from the files beside it.

        Raises:
          UserError: where the model cannot be read, or would change a text that it encodes.
        """
        import sentencepiece

        proto = read_model(folder / "tokenizer.model")
        _check_lossless(proto, folder)
        kinds = proto.SentencePiece
        controls = _control_flags(folder)
        tokens = []
        self._bytes: list[bytes] = []  # the text of every id
        self._byte_ids: dict[int, int] = {}
        for index, piece in enumerate(proto.pieces):
            content = piece.piece.replace(_SPACE, " ").encode()
            if piece.type == kinds.USER_DEFINED:
                content = piece.piece.encode()
                tokens.append(SpecialToken(piece.piece, index, is_control=controls.get(piece.piece, True)))
                # SentencePiece would parse the symbol wherever a text spells it; as an unused piece it never does.
                piece.type = kinds.UNUSED
            elif piece.type == kinds.BYTE:
                content = bytes([int(piece.piece[1:-1], 16)])
                self._byte_ids[content[0]] = index
            elif piece.type in (kinds.UNKNOWN, kinds.CONTROL):
                content = b""
            self._bytes.append(content)
        self._ids = {piece.piece: index for index, piece in enumerate(proto.pieces)}
        self._control_ids = {token.id for token in tokens if token.is_control}
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
        super().__init__(folder, tokens, vocab_size=len(proto.pieces))

    def decode(self, ids: Sequence[int], *, skip_specials: bool = False) -> str:
        """Returns the text of `ids`; bytes that are no UTF-8 become U+FFFD, ids beyond the vocabulary nothing."""
        dropped = self._control_ids if skip_specials else ()
        content = b"".join(self._bytes[i] for i in ids if i < self.vocab_size and i not in dropped)
        return content.decode(errors="replace")

    def _encode_plain(self, text: str) -> list[int]:
        # A literal U+2581 would come back as a space, so its three bytes are spelt out.
        ids: list[int] = []
        for i, run in enumerate(text.split(_SPACE)):
            if i:
                ids.extend(self._byte_ids[byte] for byte in _SPACE.encode())
            ids.extend(self._processor.encode(run))
        return ids

    def _piece_id(self, token: str) -> int | None:
        return self._ids.get(token)


def read_model(path: Path):
    """Returns the ModelProto in the file `path`.

    Raises:
      UserError: where the file is not a SentencePiece model.
    """
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise UserError(f"{path} is not a SentencePiece model; download or train it again.") from error
    if not proto.pieces:
        raise UserError(f"{path} has no pieces; download or train it again.")
    return proto


def _check_lossless(proto, folder: Path) -> None:
    """Refuses a model that adds a space, folds white space, normalises, or drops what it does not know."""
    rule = proto.normalizer_spec
    rewrites = rule.add_dummy_prefix or rule.remove_extra_whitespaces or rule.precompiled_charsmap
    if rewrites or not proto.trainer_spec.byte_fallback:
        raise UserError(
            f"{folder}/tokenizer.model rewrites text (a space in front, folded white space, normalisation or no byte "
            "fallback), so decoding would not give it back; use the tokenizer.json of the model instead."
        )


def _control_flags(folder: Path) -> dict[str, bool]:
    """Returns the `special` flag of the added tokens in tokenizer_config.json by their text."""
    added = read_json(folder / CONFIG_FILE).get("added_tokens_decoder", {})
    return {token["content"]: token.get("special", True) for token in added.values()}
