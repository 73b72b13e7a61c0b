"""The vocabulary of the wire: events, the facts of the protocol, and audio samples."""
