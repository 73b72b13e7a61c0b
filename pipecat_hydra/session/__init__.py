"""One session with Hydra over a WebSocket: connecting, reading, writing, reconnecting."""
