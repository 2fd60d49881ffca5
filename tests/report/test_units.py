"""Numbers as they are shown."""

from __future__ import annotations

import math

import pytest

from convsmith.report import units


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (units.percent(0.98333), "98.3 %"),
        (units.percent(0.99314, 10_000), "99.31 %"),
        (units.percent(0.9995), "99.95 %"),
        (units.percent(0.0002), "0.02 %"),
        (units.percent(1.0), "100.0 %"),
        (units.axis_percent(0.975), "97.5 %"),
        (units.percent(None), "–"),
        (units.percent(math.nan), "–"),
        (units.points(-0.0028), "−0.28"),
        (units.points(0.00001), "0.00"),
        (units.points(0.004), "+0.40"),
        (units.size(0), "0 B"),
        (units.size(999), "999 B"),
        (units.size(84_210), "84.2 kB"),
        (units.size(999_960), "1.00 MB"),
        (units.size(4.2e9), "4.20 GB"),
        (units.amount(650), "650"),
        (units.amount(1_410_688), "1.41 M"),
        (units.amount(0), "0"),
        (units.latency(0.000214), "214 µs"),
        (units.latency(0.00214), "2.14 ms"),
        (units.latency(0.9999), "1.00 s"),
        (units.latency(0), "0"),
        (units.duration(4.21), "4.2 s"),
        (units.duration(59.7), "1 min 00 s"),
        (units.duration(161), "2 min 41 s"),
        (units.duration(3900), "1 h 05 min"),
        (units.duration(3599.8), "1 h 00 min"),
        (units.ratio(3.1), "3.10×"),
        (units.ratio(12.4), "12×"),
        (units.count(1797), "1,797"),
        (units.shape([32, 14, 14]), "32 × 14 × 14"),
        (units.tiny(3.14e-7), "3.1 × 10⁻⁷"),
        (units.tiny(0.0), "0"),
        (units.moment("2026-03-12T14:02:11.123+00:00"), "12 March 2026, 14:02 UTC"),
        (units.moment("some day"), "some day"),
    ],
)
def test_shown(shown: str, expected: str) -> None:
    assert shown.replace("\u202f", " ") == expected
