"""`python -m facta.serve CONFIG`."""

import sys

from facta.errors import FactaError
from facta.serve.config import ServeConfig
from facta.serve.run import run

try:
    run(ServeConfig.model_validate_json(sys.argv[1]))
except FactaError as error:
    sys.exit(f"facta: {error}")
