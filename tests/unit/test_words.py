from cahp.words import duration, nats, number, percent, points, signed, size_of, span


def test_a_difference_has_its_sign_and_no_hyphen_stands_for_a_minus() -> None:
    assert (points(1.24), points(-1.26), points(0.0)) == ("+1.2 points", "−1.3 points", "+0.0 points")
    assert (signed(-2, 0), signed(2, 2), number(-3.14159, 2), number(3)) == ("−2", "+2.00", "−3.14", "3.0")


def test_a_small_divergence_keeps_two_digits() -> None:
    assert [nats(value) for value in (0.5, 0.0, 0.00012345, 0.0099)] == ["0.500", "0.000", "0.00012", "0.0099"]


def test_a_number_that_rounds_to_zero_has_no_minus() -> None:
    assert (number(-0.04), percent(-0.0004), span(-0.01, 0.1)) == ("0.0", "0.0 %", "0.0 to 0.1")
    assert (points(-0.04), signed(-0.5, 0)) == ("+0.0 points", "+0")


def test_a_size_has_at_most_three_digits_before_its_point() -> None:
    counts = (0, 999_499, 999_500, 999_499_999, 999_999_999, 1_550_000_000)
    assert [size_of(count) for count in counts] == ["0 kB", "999 kB", "1 MB", "999 MB", "1.0 GB", "1.6 GB"]


def test_a_duration_is_said_as_a_person_would() -> None:
    assert [duration(seconds) for seconds in (89, 90, 5399, 5400)] == ["89 s", "2 min", "90 min", "1.5 h"]
