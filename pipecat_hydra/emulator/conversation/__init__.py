"""The conversation of one session: turns, responses, tool calls, and the record of them.

`turn_taking` decides who speaks. `delivery` and `function_call` send one response. `tool_calls`
keeps the calls that wait for an answer. All events leave through `outlet`, in one order. `records`
and `ledger` keep what passed, for a test to look at.
"""
