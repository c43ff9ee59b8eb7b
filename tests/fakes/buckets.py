"""A plain S3 client for what a bucket's owner does beside the program."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from atlas_async.config.settings import S3Settings


@asynccontextmanager
async def s3_client(settings: S3Settings, *, service: str = "s3") -> AsyncIterator[Any]:
    """Open a client of an AWS service at the server's endpoint."""
    assert settings.secret_key is not None
    async with AioSession().create_client(
        service,
        region_name=settings.region,
        endpoint_url=settings.endpoint,
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key.reveal(),
        config=AioConfig(
            s3={"addressing_style": "path"}, request_checksum_calculation="when_required"
        ),
    ) as client:
        yield client
