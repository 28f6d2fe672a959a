"""`retrain` as a process of its own, for tests that kill it: ``python -m tests.integration.retrain_command JOBS``.

The database, the home and the lease come from the environment, as for the real command.
"""

import json
import sys

from app.config.settings import Settings
from app.log import configure_logging
from app.services.retrain import retrain
from tests.integration.shops import CHEAP


def main() -> None:
    settings = Settings()
    configure_logging(settings)
    summary = retrain(settings, CHEAP, jobs=int(sys.argv[1]), force="--force" in sys.argv)
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
