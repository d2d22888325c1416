"""The side of datatrove in `benchmarks.decontaminate_vs_datatrove`; needs datatrove, spacy, regex and xxhash < 4.

Run by `benchmarks.peers.Peer`: the one argument is JSON with the settings below. First the index is built. Then each
line of the standard input is a turn: the texts are filtered, which is answered with the seconds of processor time that
it took and the numbers of those that are contaminated.
"""

import json
import pathlib
import sys
import tempfile
import time

sys.stdout, answers = sys.stderr, sys.stdout  # what libraries print is no answer

import numpy as np  # noqa: E402
from datatrove.data import Document  # noqa: E402
from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter  # noqa: E402
from datatrove.utils.text import TextNormConfig, ngrams, simplify_text  # noqa: E402
from datatrove.utils.word_tokenizers import WordTokenizer  # noqa: E402


class BlankTokenizer(WordTokenizer):
    """Splits at blanks: what is left of datatrove's cost if its tokenizer cost next to nothing."""

    def word_tokenize(self, text):
        """Returns the words."""
        return text.split()

    def sent_tokenize(self, text):
        """Returns the text."""
        return [text]

    def span_tokenize(self, text):
        """Returns the span of the text."""
        return [(0, len(text))]


def write_index(step, folder, protected):
    """Writes the hashes of the n-grams of the protected texts, as the indexer does, which wants lighteval besides."""
    hashes = set()
    for text in protected:
        words = step.tokenizer.word_tokenize(simplify_text(text, step.config.norm_config))
        hashes.update(map(step.hash_func, map(" ".join, ngrams(words, step.config.n_grams))))
    array = np.array(list(hashes), dtype=step.config.hash_config.np_descr)
    array.tofile(pathlib.Path(folder) / "protected.index.hashes")
    return len(hashes)


def main():
    """Filters until nobody asks any more."""
    settings = json.loads(sys.argv[1])
    files = [json.loads(pathlib.Path(settings[name]).read_text()) for name in ("protected", "texts")]
    protected, texts = files
    config = NGramsDecontConfig(n_grams=settings["size"], norm_config=TextNormConfig(norm_numbers=False))
    language = BlankTokenizer() if settings["tokenizer"] == "blanks" else "en"
    with tempfile.TemporaryDirectory() as folder:
        step = NGramsDecontFilter(folder, config=config, language=language)
        size = write_index(step, folder, protected)
        step.load_index_hashes()
    for _ in sys.stdin:
        documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
        started = time.process_time()
        found = [number for number, document in enumerate(documents) if step.filter(document) is not True]
        answer = {"seconds": time.process_time() - started, "found": found, "index": size}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
