"""One mailbox from a snapshot into Microsoft 365.

::

    records ──> placement ──> decide ──> read ──> letter ──> create ──> enclose ──> journal
    (selection)  target        is it      checked   what        POST,     attachments
                 folder,       there      content   Graph       looked    that did not
                 made when     already?             takes       up before fit in
                 it is absent                                   a second
                                                                try

R1  A message is created at most once by a restore, however often the restore is run, killed or
    its answers are lost: each carries a mark that names restore and source, or is announced
    before where it cannot, and is looked for wherever it is not certain.
R2  Nothing is removed but what a restore made, and what ``REPLACE`` replaces: that is moved to
    Deleted Items, after its successor is there.
R3  Every message of the selection ends in exactly one step; what is not restored is in the report.
R4  Content is checked before it is visible: an upload session is finished only when the last byte
    proved right.
R5  A bad message or attachment costs itself. What concerns the whole mailbox (throttling, consent,
    quota, the store) ends the restore; running it again continues.
"""
