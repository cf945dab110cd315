"""What a shared store's libraries raise, as quantfleet's errors: what may pass, and what only a person can mend."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from storage import addresses, errors, store_address
from worker import store_target

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_PATIENCE = frozenset(
    {
        errno.EBUSY,
        errno.EAGAIN,
        errno.ETIMEDOUT,
        errno.EREMOTEIO,
        errno.EIO,
        errno.ESTALE,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ENOTCONN,
    }
)

_KEYS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_REFUSED = {
    "NoSuchBucket": "there is no such bucket; make it, or correct QUANTFLEET_STORE",
    "InvalidAccessKeyId": f"it does not know our key; {_KEYS}",
    "SignatureDoesNotMatch": f"it does not take our secret key; {_KEYS}",
    "ExpiredToken": "our token has expired; set a new AWS_SESSION_TOKEN",
    "InvalidToken": "it does not take our AWS_SESSION_TOKEN",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
    "InvalidBucketName": "that cannot be the name of a bucket; expected s3://BUCKET/PREFIX",
    "ParamValidationError": "that cannot be the name of a bucket; expected s3://BUCKET/PREFIX",
    "PermanentRedirect": "the bucket is in another region; set AWS_DEFAULT_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set AWS_DEFAULT_REGION",
    "NoCredentialsError": "no keys are set; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "PartialCredentialsError": f"one of the keys is missing; {_KEYS}",
    "XMinioStorageFull": "it is full",
    "XMinioAdminBucketQuotaExceeded": "the bucket's quota is used up",
    "QuotaExceeded": "its quota is used up",
    "InsufficientStorage": "it is full",
    "AuthenticationException": "it does not take our password or key",
    "SSLError": "it shows a certificate that is not known here; name its authority's file in AWS_CA_BUNDLE",
}
"""What only a person can mend, by S3's codes and by the names of exceptions."""

_LONGEST = 300
_NOT_TRUSTED = "certificate verify failed"
_AWAY = ("botocore.", "aiobotocore.", "aiohttp.", "fsspec.", "paramiko.", "requests.", "urllib3.")
"""Beginnings of modules whose other exceptions mean that something on the way did not answer."""


@contextlib.contextmanager
def translated(address: str, *, reading: bool = False) -> Iterator[None]:
    """Raise SettingsError or Unreachable, naming the store without its password.

    While `reading`, a full disk is ours, not the store's: such an OSError passes as it is.
    """
    try:
        yield
    except errors.QuantfleetError:
        raise
    except Exception as exc:
        if reading and isinstance(exc, OSError) and exc.errno in _FULL:
            raise
        known = _error(exc, address)
        if known is None:
            raise
        raise known from exc


def _error(exc: Exception, address: str) -> errors.QuantfleetError | None:
    where = f"store {store_address.redact(address)}"
    told = addresses.without_password(" ".join(str(exc).split()) or type(exc).__name__, address)
    said = told if len(told) <= _LONGEST else f"{told[:_LONGEST]}…"
    word = "SSLError" if _NOT_TRUSTED in said else store_target.code(exc) or type(exc).__name__
    if word in _REFUSED:
        return errors.SettingsError(f"{where}: {_REFUSED[word]} ({said})")
    away = errors.Unreachable(f"{where} does not answer: {said}")
    if type(exc).__module__.startswith(_AWAY) or isinstance(exc, (ConnectionError, TimeoutError, EOFError)):
        return away
    if isinstance(exc, OSError):
        mended = _by_a_person(exc, said)
        return away if mended is None else errors.SettingsError(f"{where}: {mended}")
    if isinstance(exc, (ValueError, TypeError, NotImplementedError)):  # fsspec's words for what cannot be meant
        return errors.SettingsError(f"{where} cannot be used: {said}")
    return None


def _by_a_person(exc: OSError, said: str) -> str | None:
    """What is to be done, or None for what may pass by itself."""
    if exc.errno in _FULL:
        return "it is full; remove what is no longer needed there"
    if isinstance(exc, FileNotFoundError):
        return f"{said}; make it or mount it, or correct QUANTFLEET_STORE"
    if isinstance(exc, PermissionError) or exc.errno in (errno.EROFS, errno.EPERM, errno.EACCES):
        return f"it refuses us ({said}); this host needs the right to list, read and write there"
    if exc.errno in _PATIENCE or exc.errno is None:
        return None
    return f"it cannot be used: {os.strerror(exc.errno)} ({said})"
