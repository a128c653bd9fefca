"""Records of a batch laid out anew, whatever they hold: (B, …) and (B, J, …) tensors, in records within them too."""

from typing import TypeVar

from rfp.records import map_tensors

Record = TypeVar("Record")


def each_repeated(record: Record, count: int) -> Record:
    """Each row ``count`` times, beside each other: (B, …) to (B count, …)."""
    return map_tensors(record, lambda value: value[:, None].expand(-1, count, *value.shape[1:]).flatten(0, 1))


def flattened(record: Record) -> Record:
    """(B, J, …) to (B J, …)."""
    return map_tensors(record, lambda value: value.flatten(0, 1))
