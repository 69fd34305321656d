"""What DBOS writes values with, and reads: JSON alone."""

from __future__ import annotations

from typing import Any, Never


def json_serializer() -> Any:
    """DBOS's portable JSON. Its own way is pickle, which runs what it reads, and each row says in
    which way it was written: who can write into the database could run code in every worker. So
    rows of pickle are refused from here on.
    """
    from dbos import DBOSPortableJSONSerializer
    from dbos._serialization import DefaultSerializer

    DefaultSerializer.deserialize = _refuse
    return DBOSPortableJSONSerializer()


def _refuse(cls: Any, serialized_data: str) -> Never:
    del cls, serialized_data
    raise TypeError("a row written with pickle, which is not read here: Livery writes JSON")
