"""The worker, with BSAFusion among its models, also while its weights do not ship yet."""

from __future__ import annotations

from regnet import models
from regnet.worker import main

if __name__ == "__main__":
    if "bsafusion" not in models.MODEL_NAMES:
        models.MODEL_NAMES = (*models.MODEL_NAMES, "bsafusion")
    main()
