"""One run over several processes: a parent that hands out mailboxes, workers that do them.

The parent alone talks to the directory, makes the bucket and the key, and writes the report.
"""
