"""tenantcast: daily sales forecasts for every tenant of a product, beside its own Postgres.

Importing this package pins the native thread pools to one thread. It has to happen before numpy is loaded:
two concurrent fits that each start a thread per core are many times slower than two single-threaded ones,
and parallelism here is processes. A value that the operator has set stands.
"""

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

__version__ = "0.1.0"
