"""Mutation testing of the pure code: which changes of it do the tests notice?

A mutant is the code with one small fault: a comparison turned, a condition left out, a
statement removed (`mutants.py` lists the operators). It is killed if a test fails, and survives
if none does; a survivor is either equivalent to the code, or a behaviour that no test guards.
The score is the share of mutants that are killed.

The code has far more mutants than anybody waits for, so a run tries a sample: a seed gives
each mutant a rank, and each module gets a share of the sample by the number of its mutants. A
rank depends on the text of the mutated statement alone, so code that is moved to another file or
function keeps its mutants in the sample, and scores before and after can be compared.

`trial.py` runs the tests against one mutant, in a process of its own. No file is changed: the
mutated module is compiled in memory. The tests are those of the folder in `tests` that mirrors
the module's, the module's own file first and then the quickest ones.

`python -m mutation --help`, run in `tests`, or `make mutants`, tries a sample. Linux and macOS
only: it forks.
"""
