"""Run it with `pytest examples/own`: what the machinery counts on in a model."""

from lottery.testing import check_entry


def test_mynet_does_what_a_study_counts_on() -> None:
    import mynet  # noqa: F401, which registers it

    check_entry("models", "mynet", input_shape=(1, 8, 8), classes=10, width=16)
