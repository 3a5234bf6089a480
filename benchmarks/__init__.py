"""Speed and memory, as ratios measured in one run: ``make bench``."""

import xlt_tutorial  # noqa: F401  (before torch: it sets how torch's threads wait)
