"""One public verb per file, on an opened tenant. The SDK and the command line only call these."""
