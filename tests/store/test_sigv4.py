"""Signatures, against AWS's published examples and against botocore."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.config.secret import Secret
from atlas_async.store.sigv4 import (
    EMPTY_SHA256,
    UNSIGNED_PAYLOAD,
    Credentials,
    Signer,
    canonical_query,
    encode_path,
    timestamp,
)

EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"))
HOST = {"host": "examplebucket.s3.amazonaws.com", "x-amz-date": "20130524T000000Z"}

# docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html, "Examples"
PUBLISHED = {
    "get-object": (
        ("GET", "/test.txt", {}),
        {"range": "bytes=0-9", "x-amz-content-sha256": EMPTY_SHA256},
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
    "put-object": (
        ("PUT", "/test$file.text", {}),
        {
            "date": "Fri, 24 May 2013 00:00:00 GMT",
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
            "x-amz-content-sha256": (
                "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"
            ),
        },
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ),
    "get-lifecycle": (
        ("GET", "/", {"lifecycle": ""}),
        {"x-amz-content-sha256": EMPTY_SHA256},
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    ),
    "list-objects": (
        ("GET", "/", {"max-keys": "2", "prefix": "J"}),
        {"x-amz-content-sha256": EMPTY_SHA256},
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_examples_have_their_published_signature(name: str) -> None:
    """AWS's own examples for S3 come out as printed there."""
    (method, path, parameters), headers, signature = PUBLISHED[name]
    value = Signer("us-east-1").authorization(
        EXAMPLE, method, encode_path(path), canonical_query(parameters), {**HOST, **headers}
    )
    assert value.endswith(f"Signature={signature}")
    assert "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request" in value


class FixedDateAuth(S3SigV4Auth):  # type: ignore[misc] # botocore has no types
    """botocore's signer with the date of the request under test."""

    def add_auth(self, request: AWSRequest) -> None:
        """Sign without taking the time."""
        canonical = self.canonical_request(request)
        request.context["timestamp"] = request.headers["X-Amz-Date"]
        self._inject_signature_to_request(
            request, self.signature(self.string_to_sign(request, canonical), request)
        )


@given(
    key=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30),
    prefix=st.text(st.characters(codec="utf-8"), max_size=10),
    metadata=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20),
)
def test_any_request_is_signed_as_botocore_signs_it(key: str, prefix: str, metadata: str) -> None:
    """For any key, query and header the signature equals botocore's."""
    path, query = encode_path(f"/bucket/{key}"), canonical_query({"prefix": prefix, "a": "b c"})
    headers = {
        "host": "localhost:9002",
        "x-amz-content-sha256": UNSIGNED_PAYLOAD,
        "x-amz-date": "20260420T112959Z",
        "content-md5": "1B2M2Y8AsgTpgAmY7PhCfg==",
        "x-amz-meta-id": metadata,
        "x-amz-security-token": "token",
    }
    credentials = Credentials("access", Secret("secret"), Secret("token"))
    ours = Signer("eu-central-1").authorization(credentials, "PUT", path, query, headers)
    request = AWSRequest("PUT", f"http://localhost:9002{path}?{query}", headers=dict(headers))
    FixedDateAuth(BotoCredentials("access", "secret", "token"), "s3", "eu-central-1").add_auth(
        request
    )
    assert ours == request.headers["Authorization"]


def test_the_day_and_the_credentials_change_the_key() -> None:
    """A signer used across midnight, or with renewed credentials, signs as a new one would."""
    signer = Signer("us-east-1")
    other = Credentials("other", Secret("other"))
    for credentials in (EXAMPLE, other, EXAMPLE):
        for day in ("20260420T235959Z", "20260421T000000Z"):
            headers = {"host": "h", "x-amz-date": day, "x-amz-content-sha256": UNSIGNED_PAYLOAD}
            again = signer.authorization(credentials, "GET", "/b", "", headers)
            assert again == Signer("us-east-1").authorization(credentials, "GET", "/b", "", headers)


def test_the_time_is_written_in_utc() -> None:
    """``x-amz-date`` is UTC to the second."""
    assert timestamp(datetime(2026, 4, 20, 11, 29, 59, 999_000, UTC)) == "20260420T112959Z"


def test_no_secret_shows() -> None:
    """Neither credentials nor a signer that has used them show a secret."""
    credentials = Credentials("access", Secret("hush-key"), Secret("hush-token"))
    signer = Signer("us-east-1")
    headers = {"host": "h", "x-amz-date": "20260420T000000Z", "x-amz-content-sha256": "x"}
    header = signer.authorization(credentials, "GET", "/", "", headers)
    assert "hush" not in f"{credentials!r} {signer!r} {header}"
