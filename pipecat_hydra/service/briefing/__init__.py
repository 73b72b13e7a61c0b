"""What a session is told: the instructions, the context and the history."""
