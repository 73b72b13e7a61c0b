"""The conversation of one session: turns, responses, tool calls, and the record of them.

`turn_taking` starts and cancels responses. `user_turn` sends the events of the user's turns,
`delivery` and `function_call` those of one response. `tool_calls` keeps the calls that wait for an
output. All events leave through `outlet`, in one order. `records` and `ledger` record what passed,
for a test to look at, and `activity` reports it to a hook while it happens.
"""
