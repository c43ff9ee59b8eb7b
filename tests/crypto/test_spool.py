"""Objects sealed and opened piece by piece are the same objects."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from anyio import to_thread
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.crypto.envelope import OVERHEAD_BYTES, Sealer
from atlas_async.crypto.spool import PIECE_BYTES, Spool, SpoolSealer, StreamOpener
from atlas_async.errors import AtlasError, IntegrityError, StoreFull

SEALER = Sealer(bytes(range(32)))
PIECES = st.lists(st.binary(max_size=200), max_size=12)


def spooled(pieces: list[bytes], directory: Path | None = None) -> Spool:
    """Return a spool of the pieces."""
    sealing = SpoolSealer(SEALER, directory)
    for piece in pieces:
        sealing.update(piece)
    return sealing.finish()


async def body_of(spool: Spool) -> bytes:
    """Return all sealed bytes of a spool."""
    return b"".join([chunk async for chunk in spool.chunks()])


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """Return ``data`` in pieces, cut at the given places."""
    places = sorted({min(c, len(data)) for c in cuts} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(places)]


@given(PIECES)
async def test_a_spool_is_the_sealed_object_of_its_pieces(pieces: list[bytes]) -> None:
    """However the plaintext arrives, the spool opens like an object sealed in one go."""
    plaintext = b"".join(pieces)
    spool = await to_thread.run_sync(spooled, pieces)
    try:
        body = await body_of(spool)
        assert SEALER.open(body) == plaintext
        assert (spool.size, spool.plaintext_size) == (len(body), len(plaintext))
        assert len(body) == len(plaintext) + OVERHEAD_BYTES
        assert spool.checksum == hashlib.sha256(plaintext).hexdigest()
        assert spool.md5 == hashlib.md5(body, usedforsecurity=False).digest()
    finally:
        spool.close()


async def test_a_large_spool_is_read_in_bounded_pieces_as_often_as_wanted() -> None:
    """Pieces hold at most 1 MiB, and a second reading gives the same bytes."""
    plaintext = bytes(range(256)) * 9_000
    pieces = [plaintext[:1_000_000], plaintext[1_000_000:]]
    spool = await to_thread.run_sync(spooled, pieces)
    try:
        sizes = [len(chunk) async for chunk in spool.chunks()]
        assert max(sizes) <= PIECE_BYTES
        assert sum(sizes) == spool.size
        assert await body_of(spool) == await body_of(spool)
        assert SEALER.open(await body_of(spool)) == plaintext
    finally:
        spool.close()


async def test_only_ciphertext_reaches_the_disk_and_no_name(tmp_path: Path) -> None:
    """The spool's file has no name, and the plaintext is nowhere in it."""
    marker = b"a very recognisable plaintext" * 50
    spool = await to_thread.run_sync(spooled, [marker, marker], tmp_path)
    body = await body_of(spool)
    names = await to_thread.run_sync(os.listdir, tmp_path)
    spool.close()
    assert names == []
    assert marker[:29] not in body


def test_an_abandoned_spool_gives_its_file_back(tmp_path: Path) -> None:
    """After ``abandon`` nothing can be written any more, and nothing is left behind."""
    sealing = SpoolSealer(SEALER, tmp_path)
    sealing.update(b"begun")
    sealing.abandon()
    with pytest.raises(ValueError, match="closed"):
        sealing.update(b"more")
    assert list(tmp_path.iterdir()) == []


class FullFile(io.BytesIO):
    """A file on a disk with room for a few bytes."""

    def write(self, data: object) -> int:
        """Take 40 bytes, then report a full disk."""
        if len(self.getvalue()) > 40:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)  # type: ignore[arg-type]  # what callers pass is bytes


def test_a_full_disk_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Running out of room names the directory and the setting that moves it."""
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: FullFile())
    sealing = SpoolSealer(SEALER, tmp_path)
    sealing.update(b"x" * 100)
    with pytest.raises(StoreFull, match="No space left") as caught:
        sealing.update(b"y")
    assert "ATLAS_SPOOL_DIR" in caught.value.hint
    assert caught.value.where == str(tmp_path)


def test_a_spool_directory_that_is_not_there_is_a_typed_error(tmp_path: Path) -> None:
    """A wrong setting is told as such, not as a traceback."""
    with pytest.raises(AtlasError) as caught:
        SpoolSealer(SEALER, tmp_path / "absent")
    assert "absent" in f"{caught.value} {caught.value.hint}"


@given(st.binary(max_size=400), st.lists(st.integers(0, 430), max_size=8))
def test_opening_piece_by_piece_equals_opening_at_once(plaintext: bytes, cuts: list[int]) -> None:
    """However the sealed bytes arrive, the plaintext, its size and its hash come out."""
    opener = StreamOpener(SEALER)
    out = b"".join(opener.update(piece) for piece in cut(SEALER.seal(plaintext).body, cuts))
    assert opener.finish() == hashlib.sha256(plaintext).hexdigest()
    assert out == plaintext
    assert opener.plaintext_size == len(plaintext)


@given(st.binary(max_size=200), st.lists(st.integers(0, 230), max_size=5), st.data())
def test_a_flipped_bit_is_found_at_the_end(
    plaintext: bytes, cuts: list[int], data: st.DataObject
) -> None:
    """A changed object is never reported as whole."""
    body = bytearray(SEALER.seal(plaintext).body)
    bit = data.draw(st.integers(0, len(body) * 8 - 1))
    body[bit // 8] ^= 1 << bit % 8
    opener = StreamOpener(SEALER, where="attachments/x/y")
    for piece in cut(bytes(body), cuts):
        opener.update(piece)
    with pytest.raises(IntegrityError) as caught:
        opener.finish()
    assert caught.value.where == "attachments/x/y"


def test_every_truncation_is_found_at_the_end() -> None:
    """No prefix of an object is whole, not even an empty one."""
    body = SEALER.seal(b"some plaintext of some length").body
    for length in range(len(body)):
        opener = StreamOpener(SEALER)
        opener.update(body[:length])
        with pytest.raises(IntegrityError):
            opener.finish()
