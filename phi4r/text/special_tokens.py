"""Special tokens: parsing them in text under a rule, and reading from the files which of them play a role.

Both tokenizers share this. The library underneath only ever sees plain text between special tokens, so no text of
a user can turn into a control token by a feature of that library.
"""

import abc
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from phi4r.errors import UserError
from phi4r.text.files import CONFIG_FILE, read_json
from phi4r.text.tokenizer import END_THINK, THINK, Specials

_END_OF_TURN = "<|im_end|>"


@dataclass(frozen=True)
class SpecialToken:
    """An added token of the vocabulary.

    Attributes:
      text: as it is written, such as `<|im_end|>`.
      id: its id.
      is_control: decoding with `skip_specials` drops it.
      strips_left: white space before it is swallowed (`lstrip` in the files).
      strips_right: white space after it is swallowed (`rstrip`).
    """

    text: str
    id: int
    is_control: bool = True
    strips_left: bool = False
    strips_right: bool = False


class SpecialTokenizer(abc.ABC):
    """What `HfTokenizer` and `SentencePieceTokenizer` share: everything about special tokens."""

    def __init__(self, folder: Path, tokens: Sequence[SpecialToken], *, vocab_size: int):
        """Reads the roles (eos, bos, pad) from `folder`.

        Raises:
          UserError: where the files name no token that ends a turn, or one that is not in the vocabulary.
        """
        self.vocab_size = vocab_size
        self.special_tokens: Mapping[str, int] = {token.text: token.id for token in tokens}
        self._tokens = {token.text: token for token in tokens}
        self._patterns: dict[frozenset[str], re.Pattern[str]] = {}
        self._folder = folder
        eos = self.special_tokens.get(_END_OF_TURN)  # early files of Phi-4 name <|endoftext|>, yet end turns with it
        self.eos_id = eos if eos is not None else self._role("eos")
        if self.eos_id is None:
            raise UserError(f"{folder} names no token that ends a turn; set eos_token in its tokenizer_config.json.")
        self.bos_id = self._role("bos")
        pad = self._role("pad")
        self.pad_id = self.eos_id if pad is None else pad

    @abc.abstractmethod
    def _encode_plain(self, text: str) -> list[int]:
        """Returns the ids of `text`, none of them special."""

    @abc.abstractmethod
    def _piece_id(self, token: str) -> int | None:
        """Returns the id of the vocabulary entry `token`, or None."""

    @abc.abstractmethod
    def decode(self, ids: Sequence[int], *, skip_specials: bool = False) -> str:
        """Returns the text of `ids`; `skip_specials` drops control tokens, but not the think tags."""

    def encode(self, text: str, *, specials: Specials = False) -> list[int]:
        """Returns the ids of `text`; see `phi4r.text.tokenizer.Tokenizer.encode`."""
        return self.encode_parts([(text, specials)])

    def encode_parts(self, parts: Sequence[tuple[str, Specials]]) -> list[int]:
        """Returns the ids of one text in parts; see `phi4r.text.tokenizer.Tokenizer.encode_parts`."""
        items = self._split(parts)
        ids: list[int] = []
        for i, item in enumerate(items):
            if isinstance(item, SpecialToken):
                ids.append(item.id)
                continue
            if i > 0 and items[i - 1].strips_right:
                item = item.lstrip()
            if i + 1 < len(items) and items[i + 1].strips_left:
                item = item.rstrip()
            ids.extend(self._encode_plain(item))
        return ids

    def token_id(self, token: str) -> int:
        """Returns the id of the vocabulary entry `token`.

        Raises:
          UserError: where the vocabulary has no such entry.
        """
        index = self._piece_id(token)
        if index is None:
            raise UserError(f"the tokenizer in {self._folder} has no token {token!r}; check the folder.")
        return index

    @property
    def think_id(self) -> int:
        """The id of `<think>`."""
        return self._think_tag(THINK)

    @property
    def end_think_id(self) -> int:
        """The id of `</think>`."""
        return self._think_tag(END_THINK)

    def _think_tag(self, tag: str) -> int:
        if tag not in self.special_tokens:
            raise UserError(
                f"the tokenizer in {self._folder} has no {tag} token; make a reasoning model of the folder with "
                "`phi4r convert hf-to-orbax --reasoning`."
            )
        return self.special_tokens[tag]

    def _split(self, parts: Sequence[tuple[str, Specials]]) -> list[str | SpecialToken]:
        """Returns the runs of plain text and the special tokens between them; two runs are never neighbours."""
        items: list[str | SpecialToken] = []
        for text, specials in parts:
            for i, piece in enumerate(self._cut(text, specials)):
                if i % 2:
                    items.append(self._tokens[piece])
                elif piece and items and isinstance(items[-1], str):
                    items[-1] += piece
                elif piece:
                    items.append(piece)
        return items

    def _cut(self, text: str, specials: Specials) -> list[str]:
        """Returns plain text at even and special tokens at odd places."""
        names = frozenset(self.special_tokens if specials is True else specials or ())
        return self._pattern(names).split(text) if names else [text]

    def _pattern(self, names: frozenset[str]) -> re.Pattern[str]:
        if names not in self._patterns:
            if unknown := sorted(names - self.special_tokens.keys()):
                raise UserError(f"{unknown[0]!r} is not a special token of the tokenizer in {self._folder}.")
            longest_first = sorted(names, key=lambda name: (-len(name), name))
            self._patterns[names] = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
        return self._patterns[names]

    def _role(self, role: str) -> int | None:
        """Returns the id that the files give to `eos`, `bos` or `pad`, by name or, failing that, by number."""
        for file in (CONFIG_FILE, "special_tokens_map.json"):
            token = read_json(self._folder / file).get(f"{role}_token")
            if isinstance(token, dict):
                token = token.get("content")
            if token is not None:
                return self.token_id(token)
        for file in ("generation_config.json", "config.json"):
            index = read_json(self._folder / file).get(f"{role}_token_id")
            if isinstance(index, list) and index:
                index = index[0]
            if isinstance(index, int):
                return index
        return None
