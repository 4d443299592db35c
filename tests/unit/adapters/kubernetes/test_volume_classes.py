"""Which StorageClass is the default."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from odc.adapters.kubernetes.volume_classes import newest_default
from odc.adapters.kubernetes.volume_objects import StorageClass, VolumeMeta

DEFAULT = "storageclass.kubernetes.io/is-default-class"
BETA = "storageclass.beta.kubernetes.io/is-default-class"


def a_class(name: str, day: int, **annotations: str) -> StorageClass:
    created = datetime(2026, 1, day, tzinfo=UTC)
    return StorageClass(metadata=VolumeMeta(name=name, created_at=created, annotations=annotations))


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ([], None),
        ([a_class("a", 1), a_class("b", 2, **{DEFAULT: "false"})], None),
        ([a_class("a", 1, **{DEFAULT: "true"}), a_class("b", 2)], "a"),
        ([a_class("a", 1, **{BETA: "true"})], "a"),
        ([a_class("a", 1, **{DEFAULT: "true"}), a_class("b", 2, **{DEFAULT: "true"})], "b"),
        ([a_class("b", 1, **{DEFAULT: "true"}), a_class("a", 1, **{DEFAULT: "true"})], "a"),
    ],
    ids=["no class", "no default", "one", "by the beta annotation", "the newest of two", "of one age the first name"],
)
def test_the_default_class_is_the_one_that_kubernetes_chooses(
    classes: list[StorageClass], expected: str | None
) -> None:
    found = newest_default(classes)
    assert (found.metadata.name if found else None) == expected
