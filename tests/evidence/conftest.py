"""Places where a log is published: a folder, and a bucket of moto's S3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tallystick.evidence.publications import DirectoryPublication, Publication, S3Publication
from tests.evidence.published import BUCKET


@pytest.fixture
def s3() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("s3", "eu-central-1", aws_access_key_id="x", aws_secret_access_key="x")
        place = {"LocationConstraint": "eu-central-1"}
        client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place, ObjectLockEnabledForBucket=True)
        client.create_bucket(Bucket="plain", CreateBucketConfiguration=place)
        yield client


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Publication:
    if request.param == "folder":
        return DirectoryPublication(tmp_path / "log")
    return S3Publication(BUCKET, "some/log", client=request.getfixturevalue("s3"))
