"""The control plane: what is asked of a bucket itself, rarely, through aiobotocore.

Every operation runs on an event loop of its own (see ``own_loop``). A cancelled caller waits for it
to end, which the timeouts below bound.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from atlas_async.config.settings import S3Settings
from atlas_async.errors import StoreMisconfigured, StoreTransient
from atlas_async.store.own_loop import run_on_own_loop
from atlas_async.store.s3_errors import Fault, store_error
from atlas_async.store.sigv4 import Credentials

if TYPE_CHECKING:
    from aiobotocore.session import AioSession
    from types_aiobotocore_s3.client import S3Client

T = TypeVar("T")

CONNECT_SECONDS = 20.0
READ_SECONDS = 60.0


class S3Control:
    """Operations on one bucket.

    Args:
        settings: Endpoint, region and trust.
        bucket: The bucket's name.
    """

    def __init__(self, settings: S3Settings, bucket: str) -> None:
        self._settings = settings
        self._bucket = bucket
        self._session: AioSession | None = None

    async def create_bucket(self, credentials: Credentials) -> None:
        """Create the bucket; succeeds when it is ours already.

        Raises:
            StoreAuthError: Not permitted, or the name belongs to somebody else.
            StoreMisconfigured: The region or the name do not fit.
            StoreTransient: No answer.
        """
        fault = await self.run(credentials, self._create)
        if fault is not None and fault.code != "BucketAlreadyOwnedByYou":
            where = f"{self._settings.endpoint or 'AWS'}/{self._bucket}"
            raise store_error(fault, "s3:CreateBucket", self._bucket, where)

    async def run(
        self, credentials: Credentials, work: Callable[[S3Client], Awaitable[T]], *, tries: int = 1
    ) -> T | Fault:
        """Do ``work`` with a client of its own; return what it returns, or what the server refused.

        Args:
            credentials: Sign the requests.
            work: Awaited on a loop of its own, in a thread of its own.
            tries: How often each request is tried where another try may help.

        Raises:
            StoreMisconfigured: TLS fails.
            StoreTransient: No answer.
        """
        return await run_on_own_loop(lambda: self._with_client(credentials, work, tries))

    async def _with_client(
        self, credentials: Credentials, work: Callable[[S3Client], Awaitable[T]], tries: int
    ) -> T | Fault:
        from aiobotocore.config import AioConfig  # noqa: PLC0415 - half a second of start-up
        from aiobotocore.session import AioSession  # noqa: PLC0415 - the same
        from botocore.exceptions import BotoCoreError, SSLError  # noqa: PLC0415 - the same

        settings = self._settings
        try:
            # It keeps the service model, which takes longer to read than most requests.
            self._session = self._session or AioSession()
            async with self._session.create_client(
                "s3",
                region_name=settings.region,
                endpoint_url=settings.endpoint,
                aws_access_key_id=credentials.access_key,
                aws_secret_access_key=credentials.secret_key.reveal(),
                aws_session_token=credentials.token.reveal() if credentials.token else None,
                verify=str(settings.ca_file) if settings.ca_file else None,
                config=AioConfig(
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=READ_SECONDS,
                    retries={"total_max_attempts": tries},
                    s3={"addressing_style": "path"},
                    request_checksum_calculation="when_required",
                ),
            ) as client:
                return await answer_of(work(client))
        except SSLError as error:
            raise StoreMisconfigured(
                f"TLS with the store failed: {error}",
                hint="set ATLAS_CA_FILE to the CA that signed the server's certificate",
            ) from error
        except BotoCoreError as error:
            raise StoreTransient(
                f"the store cannot be reached: {error}", hint="check ATLAS_S3_ENDPOINT"
            ) from error

    async def _create(self, client: S3Client) -> None:
        # us-east-1 is the one region that must not be named (CreateBucketConfiguration).
        if self._settings.region == "us-east-1":
            await client.create_bucket(Bucket=self._bucket)
            return
        await client.create_bucket(
            Bucket=self._bucket,
            CreateBucketConfiguration={"LocationConstraint": self._settings.region},  # type: ignore[typeddict-item] # regions are the operator's
        )


async def answer_of(call: Awaitable[T]) -> T | Fault:
    """Return what a request came to, or the server's refusal; for within ``S3Control.run``."""
    from botocore.exceptions import ClientError  # noqa: PLC0415 - half a second of start-up

    try:
        return await call
    except ClientError as error:
        return _fault(error.response)


def _fault(response: object) -> Fault:
    """Return the fault in botocore's parsed answer."""
    parsed = response if isinstance(response, dict) else {}
    error = parsed.get("Error", {})
    meta = parsed.get("ResponseMetadata", {})
    headers = meta.get("HTTPHeaders", {})
    return Fault(
        int(meta.get("HTTPStatusCode", 0)),
        str(error.get("Code", "")),
        str(error.get("Message", "")),
        str(headers.get("x-amz-bucket-region", "") or error.get("Region", "")),
    )
