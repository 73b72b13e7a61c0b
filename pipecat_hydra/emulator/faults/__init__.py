"""What goes wrong on purpose.

Each fault is a value, and holds for some connections. Connections are counted from 1, in the
order of their upgrade requests, refused ones included. Counting starts again when a new
`FaultPlan` is set. `first` and `times` choose connections: `Refuse(503, times=2)` refuses the
first two, `Drop(first=3, times=1)` drops only the third, and a fault without either holds for
all. Faults add up, and any two may meet.

On a command line a fault is its kind and, after a colon, the options that differ from their
defaults::

    refuse:status=429,retry_after=2,times=2
    drop:during=response,secs=0.3,how=1011

`parse_fault` reads that form and `str` of a fault writes it.

`fault` is the base of all faults. `kinds` is the table of them, and `event_faults` has those of
single events. `parsing` reads their text form. `plan` chooses the faults of one connection, and
`random_faults` draws those of a random plan. `injection` lets them happen in one session, and
`mangler` applies those that change single events.
"""
