"""``python -m atlas_async``: the same program as the console scripts."""

from atlas_async.cli.app import main

if __name__ == "__main__":
    main()
