"""A log in an S3 bucket."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from tallystick.errors import InvalidInput, Unavailable
from tallystick.evidence.places import batches, check_path, refuse_overtaken, refuse_rewrite

OBJECTS_AT_ONCE = 16
"""Requests to S3 at a time; one takes tens of milliseconds."""

CONFLICTS = 5
MAX_RETAIN_YEARS = 100
"""What S3 Object Lock takes at most."""


class S3Publication:
    """A log in an S3 bucket, below ``prefix``.

    Files that never change are put only where there is none (``If-None-Match``), ``checkpoint`` only over the one that
    was read (``If-Match``): S3 itself decides between two publishers. With ``retain_years`` (1 to 100; the bucket must
    have Object Lock) the immutable ones are put in COMPLIANCE mode: for that time from their writing S3 lets nobody,
    not even the account's root, delete those versions. Objects that were there before are not locked after the fact.

    Needs s3:GetObject, s3:ListBucket (else S3 does not say that an object is missing), s3:PutObject and, to retain,
    s3:PutObjectRetention; and the extra ``aws``.

    Raises InvalidInput if the bucket is not there or has no Object Lock, Unavailable for all else S3 says.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        retain_years: int | None = None,
        client: Any = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if retain_years is not None and not 1 <= retain_years <= MAX_RETAIN_YEARS:
            raise InvalidInput(path="retain_years", problem=f"{retain_years} is not 1 to {MAX_RETAIN_YEARS}")
        self.bucket = bucket
        self.prefix = "/".join(check_path(prefix.strip("/"))) + "/" if prefix.strip("/") else ""
        self._retain_years = retain_years
        self._client = _s3_client() if client is None else client
        self._clock = clock

    def __repr__(self) -> str:
        return f"S3Publication({self.bucket!r}, {self.prefix!r})"

    @property
    def _place(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def read(self, path: str) -> bytes | None:
        """The object's bytes; None if there is none."""
        return self._get(path)[0]

    def write(self, path: str, data: bytes, *, immutable: bool) -> None:
        """Write one object; see ``Publication``."""
        if not immutable:
            self._put(path, data, self._headers(path, data, immutable=False))
            return
        headers = self._headers(path, data, immutable=True)
        if not self._put(path, data, {**headers, **self._retention(), "IfNoneMatch": "*"}):
            found = self.read(path)
            if found is not None and found != data:
                refuse_rewrite(self._place, path)
            if found is None:
                refuse_overtaken(self._place, path)

    def write_many(self, files: Iterable[tuple[str, bytes]]) -> int:
        """Write immutable objects, several at a time; see ``Publication``."""
        count = 0
        with ThreadPoolExecutor(OBJECTS_AT_ONCE, thread_name_prefix="publish") as pool:
            for batch in batches(files, 16 * OBJECTS_AT_ONCE):
                count += len(batch)
                list(pool.map(lambda file: self.write(file[0], file[1], immutable=True), batch))
        return count

    def replace(self, path: str, data: bytes, *, before: bytes | None) -> None:
        """Write an object that changes; see ``Publication``."""
        found, version = self._get(path)
        if found == data:
            return
        if found != before:
            refuse_overtaken(self._place, path)
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        headers = self._headers(path, data, immutable=False)
        # A put whose answer was lost is tried again, and then finds itself there: that is no one else's.
        if not self._put(path, data, {**headers, **condition}) and self.read(path) != data:
            refuse_overtaken(self._place, path)

    def _get(self, path: str) -> tuple[bytes | None, str | None]:
        """The object and its ETag."""
        check_path(path)
        with self._answers(path):
            try:
                answer = self._client.get_object(Bucket=self.bucket, Key=self.prefix + path)
            except self._client.exceptions.NoSuchKey:
                return None, None
            return answer["Body"].read(), answer["ETag"]

    def _put(self, path: str, data: bytes, headers: dict[str, Any]) -> bool:
        """Whether the object was written; False if its condition did not hold."""
        check_path(path)
        for attempt in range(CONFLICTS):
            if attempt:
                time.sleep(0.05 * 2**attempt)
            try:
                with self._answers(path):
                    self._client.put_object(Bucket=self.bucket, Key=self.prefix + path, Body=data, **headers)
            except _Refused as refused:
                if refused.status == 412:
                    return False
                continue  # 409: another conditional write to it is under way, try again
            return True
        raise Unavailable(reason=f"{path} in {self._place} was not written: another write to it does not end")

    def _headers(self, path: str, data: bytes, *, immutable: bool) -> dict[str, Any]:
        # Object Lock asks for a checksum. Caching is not "public": what needs a token must stay out of shared caches.
        return {
            "ContentType": _content_type(path),
            "CacheControl": "max-age=31536000, immutable" if immutable else "max-age=2, must-revalidate",
            "ChecksumAlgorithm": "SHA256",
            "ChecksumSHA256": base64.b64encode(hashlib.sha256(data).digest()).decode(),
        }

    def _retention(self) -> dict[str, Any]:
        if self._retain_years is None:
            return {}
        now = self._clock()
        try:
            until = now.replace(year=now.year + self._retain_years)
        except ValueError:  # 29 February
            until = now.replace(year=now.year + self._retain_years, month=3, day=1)
        return {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}

    @contextmanager
    def _answers(self, path: str) -> Iterator[None]:
        """S3's errors as ours."""
        from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped] # noqa: PLC0415

        try:
            yield
        except ClientError as error:
            answer = error.response.get("Error", {})
            code, said = answer.get("Code", "?"), answer.get("Message", "")
            if code in ("PreconditionFailed", "ConditionalRequestConflict"):
                raise _Refused(412 if code == "PreconditionFailed" else 409) from None
            if code == "NoSuchBucket":
                raise InvalidInput(path="bucket", problem=f"there is no bucket {self.bucket}") from None
            if code == "InvalidRequest" and "Lock" in said:
                raise InvalidInput(path="retain_years", problem=f"{self.bucket} has no Object Lock: {said}") from None
            reason = f"{path} in {self._place} cannot be read or written ({code}): {said}"
            raise Unavailable(reason=reason) from None
        except BotoCoreError as error:
            raise Unavailable(reason=f"{self._place} cannot be reached: {error}") from None


class _Refused(Exception):
    """S3 did not write, because of the condition: 412 it does not hold, 409 it cannot be judged now."""

    def __init__(self, status: int) -> None:
        self.status = status


def _content_type(path: str) -> str:
    if path.startswith("tile/"):
        return "application/octet-stream"
    return "application/json" if path.endswith(".json") else "text/plain; charset=utf-8"


def _s3_client() -> Any:
    try:
        import boto3  # type: ignore[import-untyped] # noqa: PLC0415 - an extra: most logs do without AWS
        from botocore.config import Config  # type: ignore[import-untyped] # noqa: PLC0415
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415
    except ImportError:
        raise InvalidInput(path="publication", problem="S3 needs the extra `aws` (boto3)") from None
    retries = {"mode": "standard", "total_max_attempts": 5}
    patience = Config(connect_timeout=5, read_timeout=30, retries=retries, max_pool_connections=OBJECTS_AT_ONCE)
    try:
        return boto3.client("s3", config=patience)
    except BotoCoreError as error:
        raise Unavailable(reason=f"S3 cannot be reached: {error}") from None
