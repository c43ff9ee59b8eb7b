"""Microsoft's SDK, signed in to an emulator, as the emulator's own tests have it."""

from __future__ import annotations

from tests.emulator.judge import judge, no_foreign_bundles

__all__ = ["judge", "no_foreign_bundles"]
