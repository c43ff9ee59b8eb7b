"""Which function answers which Graph request."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from atlas_async.emulator import (
    routes_attachment_writes,
    routes_attachments,
    routes_delta,
    routes_folder_writes,
    routes_folders,
    routes_message_writes,
    routes_messages,
    routes_users,
)
from atlas_async.emulator.router import Handler, Routes

_FOLDER: Final = "users/*/mailfolders/*"
_MESSAGE: Final = ("users/*/messages/*", f"{_FOLDER}/messages/*")


def graph_routes() -> Routes:
    """Return every route of Graph v1.0 that the emulator knows."""
    table: dict[tuple[str, str], Handler] = {
        ("GET", "users"): routes_users.list_users,
        ("GET", "users/*"): routes_users.get_user,
        ("GET", "users/*/mailboxsettings"): routes_users.get_mailbox_settings,
        ("GET", "users/*/mailfolders"): routes_folders.list_root,
        ("GET", "users/*/mailfolders/delta"): routes_folders.folder_delta,
        ("GET", _FOLDER): routes_folders.get_folder,
        ("GET", f"{_FOLDER}/childfolders"): routes_folders.list_children,
        ("GET", f"{_FOLDER}/messages"): routes_messages.list_folder,
        ("GET", f"{_FOLDER}/messages/delta"): routes_delta.message_delta,
        ("GET", "users/*/messages"): routes_messages.list_mailbox,
        ("POST", "users/*/mailfolders"): routes_folder_writes.create_in_root,
        ("POST", f"{_FOLDER}/childfolders"): routes_folder_writes.create_child,
        ("PATCH", _FOLDER): routes_folder_writes.update_folder,
        ("POST", f"{_FOLDER}/move"): routes_folder_writes.move_folder,
        ("DELETE", _FOLDER): routes_folder_writes.delete_folder,
        ("POST", f"{_FOLDER}/permanentdelete"): routes_folder_writes.purge_folder,
        ("POST", f"{_FOLDER}/messages"): routes_message_writes.create_message,
        ("POST", "users/*/messages"): routes_message_writes.create_message,
        ("POST", "users/*/translateexchangeids"): routes_message_writes.translate_ids,
    }
    for message in _MESSAGE:
        one = f"{message}/attachments/*"
        table |= {
            ("GET", message): routes_messages.get_message,
            ("GET", f"{message}/$value"): routes_messages.get_mime,
            ("GET", f"{message}/attachments"): routes_attachments.list_attachments,
            ("GET", one): routes_attachments.get_attachment,
            ("GET", f"{one}/$value"): routes_attachments.get_bytes,
            ("PATCH", message): routes_message_writes.update_message,
            ("DELETE", message): routes_message_writes.delete_message,
            ("POST", f"{message}/move"): routes_message_writes.move_message,
            ("POST", f"{message}/copy"): routes_message_writes.copy_message,
            ("POST", f"{message}/permanentdelete"): routes_message_writes.purge_message,
            ("POST", f"{message}/attachments"): routes_attachment_writes.add_attachment,
            ("POST", f"{message}/attachments/createuploadsession"): (
                routes_attachment_writes.create_upload_session
            ),
            ("DELETE", one): routes_attachment_writes.delete_attachment,
        }
    return MappingProxyType(table)
