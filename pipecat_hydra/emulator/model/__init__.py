"""The emulated model: hears turns, decides on replies, and makes their audio.

`turn_detection` finds the turns in the user's audio. A responder decides on the reply to each turn:
`responders` has their interface and the echo, `script` replies that are given in advance, and
`script_file` loads those from YAML. `steps` is what a reply is made of, and `sound` makes and
splits audio. Nothing here depends on a session or a socket.
"""
