import pytest

from phi4r.curation.teaching.grader_agreement import exact_share, krippendorff_alpha, mean_difference

# The reliability data of Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section D: 12 units, four
# observers, some values missing. He gives 0.849 for the interval metric.
PUBLISHED = (
    (1, 1, 1), (2, 2, 3, 2), (3, 3, 3, 3), (3, 3, 3, 3), (2, 2, 2, 2), (1, 2, 3, 4),
    (4, 4, 4, 4), (1, 1, 2, 1), (2, 2, 2, 2), (5, 5, 5), (1, 1), (3,),
)  # fmt: skip


def test_alpha_is_the_published_one():
    assert krippendorff_alpha(PUBLISHED) == pytest.approx(0.849, abs=0.0005)


def test_alpha_by_hand():
    # Units (1, 3) and (3, 3): n = 4, observed (2 * 4 / 1 + 0) / 4 = 2; the values 1, 3, 3, 3 have 6 ordered pairs that
    # differ by 2: 6 * 4 / (4 * 3) = 2. So alpha = 1 - 2 / 2 = 0.
    assert krippendorff_alpha([(1, 3), (3, 3)]) == pytest.approx(0.0)
    assert krippendorff_alpha([(1, 1), (3, 3)]) == 1.0


@pytest.mark.parametrize("units", [[], [(1,), (2,)], [(2, 2), (2, 2)]])
def test_alpha_is_not_defined_without_two_values_that_differ(units):
    assert krippendorff_alpha(units) is None


def test_differences_and_exact_agreement_are_over_pairs():
    # 1, 2, 4: differences 1, 3, 2. Of 2, 2, 3 one pair of three is equal.
    assert mean_difference([1, 2, 4]) == 2.0 and exact_share([2, 2, 3]) == pytest.approx(1 / 3)
    assert mean_difference([5]) == 0.0 and exact_share([5]) == 1.0
