"""An emulator of Entra ID and Microsoft Graph mail: a real server with a synthetic tenant.

::

    async with Emulator(Corpus(CorpusOptions(mailboxes=2)), tls=True) as emulator:
        ...  # point any Graph client at emulator.graph_url, trusting emulator.ca_file

It is written from Microsoft's documentation and knows nothing of the engine's own client.
"""

from __future__ import annotations

from atlas_async.emulator.behaviour import Behaviour
from atlas_async.emulator.control import Control
from atlas_async.emulator.corpus import Corpus, CorpusOptions
from atlas_async.emulator.faults import FaultRule
from atlas_async.emulator.people import Person, PersonKind
from atlas_async.emulator.serve import ServeOptions, serve
from atlas_async.emulator.server import Emulator
from atlas_async.emulator.tenant import Tenant

__all__ = [
    "Behaviour",
    "Control",
    "Corpus",
    "CorpusOptions",
    "Emulator",
    "FaultRule",
    "Person",
    "PersonKind",
    "ServeOptions",
    "Tenant",
    "serve",
]
