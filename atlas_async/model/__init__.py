"""Frozen values that the layers exchange. No I/O, no asyncio."""
