"""The emulated model: how it hears turns, decides on replies, and makes their audio.

`turn_detection` finds the user's turns in audio. A responder decides what to say and do at the end
of each. Nothing here knows of events, responses or sockets.
"""
