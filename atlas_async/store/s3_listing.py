"""The XML of ListObjectsV2, read into a page. Documents with a DTD are refused."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET

from atlas_async.errors import StoreError, StoreTransient
from atlas_async.store.base import ListPage, ObjectInfo
from atlas_async.store.s3_exchange import LISTING_BYTES
from atlas_async.store.s3_transport import LATER
from atlas_async.store.sigv4 import canonical_query


def listing_query(prefix: str, delimiter: str, token: str | None, limit: int) -> str:
    """Return the query of ListObjectsV2 for one page."""
    parameters = {
        "encoding-type": "url",
        "list-type": "2",
        "max-keys": str(min(limit, 1000)),
        "prefix": prefix,
    }
    if delimiter:
        parameters["delimiter"] = delimiter
    if token is not None:
        parameters["continuation-token"] = token
    return canonical_query(parameters)


def parse_listing(body: bytes, where: str) -> ListPage:
    """Return the page that ``body`` describes.

    Raises:
        StoreError: It is not a ListObjectsV2 answer.
    """
    if len(body) > LISTING_BYTES:
        raise StoreError("the store's listing is not one S3 would send", where=where)
    try:
        # S3 sends UTF-8. In another encoding, which the text itself could name, a DTD would hide.
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise StoreError("the store's listing is not UTF-8 text", where=where) from None
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise StoreError("the store's listing is not one S3 would send", where=where)
    try:
        # Entities cannot be declared without a DTD, so none can expand.
        return _page(ET.fromstring(text))  # noqa: S314 - DTDs are refused above
    except (ET.ParseError, ValueError) as error:
        # Cut short on its way, or the page of something that answers in the store's place.
        raise StoreTransient(
            f"the store's listing cannot be read: {error}", hint=LATER, where=where
        ) from error


def _page(root: ET.Element) -> ListPage:
    space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
    if root.tag != f"{space}ListBucketResult":
        raise ValueError(f"unexpected element {root.tag}")
    decode = unquote_plus if root.findtext(f"{space}EncodingType") == "url" else str
    objects = tuple(
        _object(element, space, decode(element.findtext(f"{space}Key", "")))
        for element in root.iterfind(f"{space}Contents")
    )
    prefixes = tuple(
        decode(element.findtext(f"{space}Prefix", ""))
        for element in root.iterfind(f"{space}CommonPrefixes")
    )
    more = root.findtext(f"{space}IsTruncated", "false").strip() == "true"
    token = root.findtext(f"{space}NextContinuationToken") if more else None
    if more and not token:
        raise ValueError("a truncated listing without a continuation token")
    return ListPage(objects, prefixes, token)


def _object(element: ET.Element, space: str, key: str) -> ObjectInfo:
    modified = element.findtext(f"{space}LastModified")
    return ObjectInfo(
        key,
        int(element.findtext(f"{space}Size", "0")),
        element.findtext(f"{space}ETag", "").strip('"'),
        datetime.fromisoformat(modified) if modified else None,
    )
