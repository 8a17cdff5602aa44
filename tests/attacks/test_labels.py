"""The labels of attacks."""

from contracts import ATTACKS


def test_labels_tell_the_table_apart():
    labels = [case().label for case in ATTACKS.values()]
    assert len(set(labels)) == len(labels)
