"""Large values in an object store (S3, Google, Azure): the only door to obstore.

Put, get, look, remove, list: by names that are never given twice. Knows nothing of rows,
and nothing of credentials: obstore takes them from the usual places of each provider.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from kitaru.errors import KitaruBackendError, KitaruFeatureNotAvailableError, KitaruUsageError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES = ("s3", "gs", "az")

_TRIES_SECONDS = 20
_AT_ONCE = 500
"""Names that one request removes, at most."""

_ADDRESS = re.compile(
    rf"(?P<bucket>(?:{'|'.join(SCHEMES)})://[A-Za-z0-9][A-Za-z0-9._-]{{1,254}})(?P<path>(?:/[^?#\s]*)?)"
)
_Found = TypeVar("_Found")


class Place(NamedTuple):
    """A bucket, and where in it: ``s3://bucket/prefix``."""

    bucket: str
    """With its scheme."""
    prefix: str

    def __str__(self) -> str:
        return f"{self.bucket}/{self.prefix}" if self.prefix else self.bucket

    @classmethod
    def parse(cls, said: object, said_by: str) -> Place:
        """The place that was said, or a ``KitaruUsageError`` that names ``said_by``.

        >>> str(Place.parse("s3://bucket/a/b/", "objects"))
        's3://bucket/a/b'
        """
        parts = _ADDRESS.fullmatch(said) if isinstance(said, str) else None
        if parts is None:
            # Not shown: whoever puts a key into it should not read it in a log.
            raise KitaruUsageError(
                f"{said_by}: pass the address of a bucket, as in s3://bucket/prefix "
                f"({', '.join(SCHEMES)}); keys and regions come from the environment, as for "
                "every tool of that provider",
                code="option-invalid",
            )
        return cls(parts["bucket"], parts["path"].strip("/"))


class Objects:
    """The objects under one place, and those that stand elsewhere by their full address."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._stores: dict[str, ObjectStore] = {}
        self._store(place.bucket)  # a missing library is told when the store is opened

    def __repr__(self) -> str:
        return f"Objects({self._place})"

    def address(self, name: str) -> str:
        """Where an object of that name is to stand."""
        return f"{self._place}/{name}"

    def put(self, address: str, data: bytes) -> None:
        """Keep it there, whole and durable, as the provider promises with its answer."""
        self._ask(address, lambda store, path: store.put(path, data))

    def get(self, address: str) -> bytes | None:
        return self._look(address, lambda store, path: bytes(store.get(path).bytes()))

    def size(self, address: str) -> int | None:
        """None: it is not there."""
        return self._look(address, lambda store, path: int(store.head(path)["size"]))

    def remove(self, addresses: Sequence[str]) -> None:
        """Remove objects of our own place; one that is not there is no error."""
        own = [address.removeprefix(f"{self._place.bucket}/") for address in addresses]
        for start in range(0, len(own), _AT_ONCE):
            part = own[start : start + _AT_ONCE]
            self._ask(str(self._place), partial(_delete, part))

    def list(self, *, before: int) -> Iterator[list[str]]:
        """The addresses of all objects of our place that are older than that instant, by pages."""
        prefix = self._place.prefix or None
        pages = self._ask(str(self._place), lambda store, _: store.list(prefix, chunk_size=1000))
        while page := self._ask(str(self._place), lambda *_: next(iter(pages), None)):
            yield [
                f"{self._place.bucket}/{entry['path']}"
                for entry in page
                if entry["last_modified"].timestamp() * 1e6 < before
            ]

    def _look(self, address: str, ask: Callable[[Any, str], _Found]) -> _Found | None:
        try:
            return self._ask(address, ask)
        except KitaruBackendError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise

    def _ask(self, address: str, ask: Callable[[Any, str], _Found]) -> _Found:
        parts = _ADDRESS.fullmatch(address)
        assert parts is not None, address
        store = self._store(parts["bucket"])
        try:
            return ask(store, parts["path"].lstrip("/"))
        except Exception as error:
            raise _refused(error, address) from error

    def _store(self, bucket: str) -> ObjectStore:
        store = self._stores.get(bucket)
        if store is None:
            store = self._stores[bucket] = _opened(bucket)
        return store


def _delete(paths: Sequence[str], store: Any, _: str) -> None:
    store.delete(paths)


def _opened(bucket: str) -> ObjectStore:
    try:
        # Only here: whoever keeps large values elsewhere needs no such library.
        from obstore.store import from_url
    except ImportError as error:
        raise KitaruFeatureNotAvailableError(
            f"large values are to be kept in {bucket}, and the library for it cannot be loaded "
            f"({error}): run `pip install 'obstore>=0.12'` in this environment",
            code="driver-not-installed",
        ) from None
    from datetime import timedelta

    # No client_options: they would push out what the environment says of the client. A request
    # has 5 s to connect and 30 s in all then.
    return from_url(
        bucket, retry_config={"max_retries": 5, "retry_timeout": timedelta(seconds=_TRIES_SECONDS)}
    )


def _refused(error: Exception, address: str) -> KitaruBackendError:
    kind = type(error).__name__
    if isinstance(error, FileNotFoundError):
        code, remedy = "objects-refused", "there is no such bucket or object"
    elif kind in ("PermissionDeniedError", "UnauthenticatedError", "UnknownConfigurationKeyError"):
        code = "objects-refused"
        remedy = "these credentials may not do it: check them, and the bucket's policy"
    else:
        code = "store-away"
        remedy = "it does not answer: check that it can be reached, and its address and region"
    # The library's own text may hold a request with its signature: a word is enough.
    return KitaruBackendError(
        f"large values in {address} cannot be used ({kind}): {remedy}. "
        "Nothing of this write was recorded",
        code=code,
    )
