"""The address of a database on a server: a text in which nothing is secret.

Whoever prints, logs or compares it has the address without its passwords; the whole of
it is handed out on request alone, to what connects. Knows no driver, so that settings
can read a URL without loading one.
"""

from __future__ import annotations

import re

_URL = re.compile(r"(postgres(?:ql)?)://", re.IGNORECASE)

# What was meant for one: `postgresql:/db`, `postgres//db`, SQLAlchemy's `postgresql+psycopg://`.
_NEARLY = re.compile(r"\s*postgres(?:ql)?(?:\+\w*)?(?::|//)", re.IGNORECASE)

# `key=value` of libpq, begun by a word that it knows: `a=b` alone may be a folder.
_KEYWORDS = re.compile(
    r"\s*(host|hostaddr|port|dbname|user|password|passfile|service|servicefile|sslmode|"
    r"application_name|connect_timeout|options)\s*=",
)

_SECRET = r"(?:ssl)?password|passfile|sslkey|oauth_client_secret|scram_(?:client|server)_key"

_SECRET_IN_QUERY = re.compile(rf"([?&](?:[^=&]*(?:{_SECRET}|key))=)[^&]*", re.IGNORECASE)
_SECRET_KEYWORD = re.compile(
    rf"\b({_SECRET})(\s*=\s*)('(?:\\.|[^'\\])*(?:'|$)|(?:\\.|\S)*)", re.IGNORECASE | re.DOTALL
)


class Address(str):
    """A libpq URL or keyword string; as a text it shows no password.

    >>> address = Address("postgresql://me:s3cret@db/app?sslmode=require")
    >>> address
    'postgresql://me:***@db/app?sslmode=require'
    >>> address.secret()
    'postgresql://me:s3cret@db/app?sslmode=require'
    """

    __slots__ = ("_said",)

    _said: str

    def __new__(cls, said: str) -> Address:
        address = super().__new__(cls, masked(said))
        address._said = said
        return address

    def secret(self) -> str:
        """What was said, passwords included: for connecting, and for nothing else."""
        return _URL.sub(lambda found: f"{found[1].lower()}://", self._said, count=1)

    def __reduce__(self) -> tuple[type[Address], tuple[str]]:
        return Address, (self._said,)


def is_address(said: str) -> bool:
    """Whether that names a PostgreSQL database, and no folder.

    >>> [is_address(each) for each in ("postgresql://db/app", "host=db dbname=app", "a=b", "/x")]
    [True, True, False, False]
    """
    return _URL.match(said) is not None or _KEYWORDS.match(said) is not None


def is_nearly_address(said: str) -> bool:
    """Whether that was meant for the address of a database, and is none: it may hold a password,
    and must become neither the name of a folder nor part of a message.

    >>> [is_nearly_address(each) for each in ("postgres:/db/app", "postgresql+psycopg://db/app")]
    [True, True]
    >>> [is_nearly_address(each) for each in ("postgresql://db/app", "./postgres:1", "postgres")]
    [False, False, False]
    """
    return _NEARLY.match(said) is not None and not is_address(said)


def masked(said: str) -> str:
    """A URL or keyword string without its passwords, fit for a message.

    >>> masked("postgresql://me:s3cret@db/app?password=x&sslmode=require")
    'postgresql://me:***@db/app?password=***&sslmode=require'
    >>> masked("host=db user=me password='s3 cret' dbname=app")
    'host=db user=me password=*** dbname=app'
    """
    if "://" not in said.partition("=")[0]:
        return _SECRET_KEYWORD.sub(r"\1\2***", said)
    # Up to the last @ before a query: a password may hold an unquoted / or @. One with an
    # unquoted ? connects nowhere, but is somebody's password all the same.
    before_query = re.sub(r"^(\w[\w+.-]*://[^:?@/]*):[^?]*@", r"\1:***@", said)
    if before_query == said:
        said = re.sub(r"^(\w[\w+.-]*://[^:?@/]*):(?!\d+(?:[,/?]|$)).*@", r"\1:***@", said)
    else:
        said = before_query
    return _SECRET_IN_QUERY.sub(r"\1***", said)
