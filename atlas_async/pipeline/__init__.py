"""One mailbox from Graph to a committed snapshot. Read the stages in this order.

::

    tree.py       which folders there are, and which changed
    produce.py    one producer per folder pages through its delta link
        |  PageBatch, bounded channel; bytes leased from budget.py
        v
    settle.py     per message: known? sparse? -> seal and put; attachments.py fetches theirs
        |  SettledPage: every item of the page has exactly one outcome
        v
    journal.py    applies pages in order, moves the folder's cursor, writes checkpoints
        |  when all folders have ended
        v
    reconcile.py  removed? moved? Verified before anything is taken out of the snapshot
    rounds.py     the rounds of a mailbox: starts producers and settlers
    run.py        wires it and commits

Invariants kept here (``docs/design.md`` has them all): I1 a checkpoint or manifest names only what
is durable; I2 a cursor moves only past settled items; I3 every item ends in one outcome; I4 a bad
item costs itself; I5 bytes in flight are leased; I6 what is committed stays.
"""
