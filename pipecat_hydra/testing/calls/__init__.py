"""Calls with a bot, as tests hold them.

`bots` runs the bot, whatever its shape. `caller` is the user: says recordings, waits for answers
and hangs up. `activity` observes the pipeline, so that the user knows when an answer is over.
`holding` holds a call from its begin to its result, and `result` is what a test asserts on.
"""
