"""Everything that a GPU is wanted for, in one command for a machine that is there for ten minutes.

`make gpu ARGS="--data DIR --out DIR"`, or `python -m benchmarks.gpu` in the checkout. It installs nothing. The parts
are processes of their own, each with a time limit: correct (the device against the processor), runs (the command line,
from training to the report), speed, study (experiments/full_size in the time that is left). How to read the results:
docs/performance.md.
"""
