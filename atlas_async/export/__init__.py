"""Mail as files that other programs read: names, MIME, and the containers they lie in."""
