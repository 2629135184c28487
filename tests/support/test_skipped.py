"""The summary of skipped tests."""

from support.skipped import summary


def test_each_reason_has_a_line_and_parts_have_one_together():
    reasons = ["Skipped: too old", "Skipped: not installed: b, npm:a", "Skipped: too old"]
    reasons += ["Skipped: not installed: b", "Skipped: not installed: program:c", "slow"]
    assert summary(reasons) == ["    3 not installed: a, b, c", "    2 too old", "    1 slow"]
    assert summary([]) == []
