"""The command line: everything that people do to an installation."""

import os

# the matrices are small: more threads wait for each other, above all on a busy machine
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
