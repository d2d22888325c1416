"""Topics: what prompts are about, by TF-IDF and k-means of scikit-learn, an optional dependency.

The fit takes a bounded sample that is drawn by a hash of the ids, so that it does not depend on the order of the
input; and the assignment works row by row, so that it does not depend on the batch. Both matter to the last bit, since
an item in another cluster may have another weight.
"""

import dataclasses
import heapq
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from phi4r.curation.draws import hash_of_id
from phi4r.curation.item import Item
from phi4r.errors import UserError

_FITS = 3  # k-means starts anew so often, and the best is taken
_CHUNK = 1024  # prompts that one step of the fit looks at


@dataclasses.dataclass(frozen=True)
class Topics:
    """Fitted topics.

    Attributes:
      names: of the topics, a number and the word that weighs most, as "03-area".
      words: of each topic, the ten that weigh most.
      vectorizer: of scikit-learn: from texts to rows of word weights.
      centres: [K, F] float64, of the topics.
    """

    names: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
    vectorizer: Any
    centres: np.ndarray

    def assign(self, texts: Sequence[str]) -> list[str]:
        """Returns the name of the topic of each text: the one whose centre is nearest, of equal ones the first."""
        rows = self.vectorizer.transform(texts)
        # |x - c|^2 without |x|^2; a sparse row times a matrix is summed in the row's own order, whatever the batch.
        distances = np.square(self.centres).sum(axis=1)[None, :] - 2.0 * (rows @ self.centres.T)
        return [self.names[topic] for topic in np.argmin(distances, axis=1)]


def fit_topics(items: Iterable[Item], *, num_topics: int, sample_size: int, max_words: int, seed: int) -> Topics:
    """Fits topics on a sample of the items; the same items give the same topics, in any order.

    Args:
      items: to sample from.
      num_topics: K; fewer where the sample is smaller.
      sample_size: items of the sample, at most.
      max_words: the most frequent words that count.
      seed: of sample and fit.

    Raises:
      UserError: if scikit-learn is missing, or there is not a word to fit on.
    """
    try:
        from sklearn.cluster import MiniBatchKMeans
        from sklearn.feature_extraction.text import TfidfVectorizer
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise UserError(
            "topics need scikit-learn: pip install 'phi4r[curation]', or set clusters.num_topics=0."
        ) from error
    prompts = _sample(items, sample_size, seed)
    vectorizer = TfidfVectorizer(max_features=max_words, sublinear_tf=True)
    try:
        rows = vectorizer.fit_transform(prompts)
    except ValueError as error:  # an empty vocabulary
        raise UserError(
            f"topics cannot be fitted: {len(prompts)} prompts without a word of two letters; set clusters.num_topics=0."
        ) from error
    with threadpool_limits(1):  # threads would add up in an order of their own
        kmeans = MiniBatchKMeans(
            min(num_topics, rows.shape[0]), random_state=seed, n_init=_FITS, batch_size=_CHUNK
        ).fit(rows)
    centres = np.asarray(kmeans.cluster_centers_, np.float64)
    vocabulary = vectorizer.get_feature_names_out()
    heaviest = np.argsort(-centres, axis=1, kind="stable")[:, :10]
    words = tuple(tuple(str(vocabulary[word]) for word in row) for row in heaviest)
    names = tuple(f"{number:02d}-{row[0]}" for number, row in enumerate(words))
    return Topics(names, words, vectorizer, centres)


def _sample(items: Iterable[Item], size: int, seed: int) -> list[str]:
    """Returns the prompts of the items whose hashes are the smallest, in the order of these."""
    keyed = ((hash_of_id(item.id, seed), item.id, item.prompt) for item in items)
    return [prompt for _, _, prompt in heapq.nsmallest(size, keyed)]
