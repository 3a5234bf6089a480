"""The course's own experiments: grids that run for hours, stored small; ``python -m studies`` lists them."""

import xlt_tutorial  # noqa: F401  (before torch: it sets how torch's threads wait)
