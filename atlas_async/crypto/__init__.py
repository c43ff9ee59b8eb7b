"""Pure functions and small objects over bytes: sealing, opening, wrapping keys. No asyncio here."""
