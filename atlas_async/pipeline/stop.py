"""How a run is asked to stop. Small, as every command loads it."""

from __future__ import annotations

import anyio


class StopSignal:
    """Asks a run to settle what is in flight and end. Setting it twice does nothing more."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    @property
    def requested(self) -> bool:
        """Tell whether somebody asked."""
        return self._event.is_set()

    def request(self) -> None:
        """Ask."""
        self._event.set()

    async def wait(self) -> None:
        """Wait until somebody asks."""
        await self._event.wait()

    async def cancel(self, scope: anyio.CancelScope) -> None:
        """Wait until somebody asks, then cancel ``scope``."""
        await self.wait()
        scope.cancel()
