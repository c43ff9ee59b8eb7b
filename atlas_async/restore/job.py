"""The document that describes a restore: which it is, from where to where, and how far it came."""

from __future__ import annotations

from typing import Final

from atlas_async.catalog.document import FORMAT
from atlas_async.catalog.layout import restores_prefix
from atlas_async.catalog.vault import Vault
from atlas_async.errors import FormatError, IntegrityError, ObjectNotFound, SnapshotNotFound
from atlas_async.model.restoring import Conflict, RestoreJob
from atlas_async.model.source import JsonObject

JOB_KIND: Final = "restore"


def job_key(mailbox_id: str, job_id: str) -> str:
    """Return the key of a restore."""
    return f"{restores_prefix(mailbox_id)}{job_id}/job"


async def list_jobs(vault: Vault) -> list[RestoreJob]:
    """Return the restores of a mailbox, oldest first; those that cannot be read are last.

    Raises:
        StoreError: The store failed.
    """
    prefix = restores_prefix(vault.mailbox_id)
    found: list[RestoreJob] = []
    token: str | None = None
    while True:
        page = await vault.store.list_page(prefix, delimiter="/", token=token)
        for child in page.prefixes:
            job_id = child[len(prefix) : -1]
            try:
                found.append(await read_job(vault, job_id))
            except SnapshotNotFound:
                continue  # the leases lie beside the jobs
            except IntegrityError as error:
                found.append(RestoreJob.damaged(vault.mailbox_id, job_id, str(error)))
        token = page.token
        if token is None:
            return sorted(found, key=lambda job: (bool(job.problem), job.begun_at, job.job_id))


async def read_job(vault: Vault, job_id: str) -> RestoreJob:
    """Return one restore.

    Raises:
        SnapshotNotFound: There is none of this id.
        IntegrityError: What describes it is damaged.
    """
    key = job_key(vault.mailbox_id, job_id)
    try:
        document = await vault.read_document(key, kind=JOB_KIND)
    except ObjectNotFound:
        raise SnapshotNotFound(
            f"no restore {job_id!r}",
            where=vault.mailbox_id,
            hint="`atlas restore --jobs -m ADDRESS` lists them",
        ) from None
    return _job_of(document, key)


def document_of(job: RestoreJob) -> JsonObject:
    """Return the catalog document of a restore."""
    return {
        "format": FORMAT,
        "kind": JOB_KIND,
        "mailbox_id": job.mailbox_id,
        "job_id": job.job_id,
        "target_tenant": job.target_tenant,
        "target_id": job.target_id,
        "target_user": job.target_user,
        "snapshots": list(job.snapshots),
        "root": job.root,
        "in_place": job.in_place,
        "conflict": job.conflict.value,
        "begun_at": job.begun_at,
        "state": job.state,
        "changed_at": job.changed_at,
        "created": job.created,
    }


def _job_of(document: JsonObject, key: str) -> RestoreJob:
    try:
        return RestoreJob(
            job_id=str(document["job_id"]),
            mailbox_id=str(document["mailbox_id"]),
            target_tenant=str(document["target_tenant"]),
            target_id=str(document["target_id"]),
            target_user=str(document["target_user"]),
            snapshots=tuple(map(str, document["snapshots"])),
            root=str(document["root"]),
            in_place=bool(document["in_place"]),
            conflict=Conflict(document["conflict"]),
            begun_at=str(document["begun_at"]),
            state=str(document["state"]),
            changed_at=str(document["changed_at"]),
            created=int(document["created"]),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise FormatError(
            f"the restore cannot be read: {type(error).__name__}", where=key
        ) from None
