"""A feature that only the training machine has: the serving image lacks this module.

Version 4 of the demo's model uses it. That is how a model that is the best on paper comes to
have a server that never becomes ready.
"""

import numpy as np
from numpy.typing import NDArray

Flowers = NDArray[np.float64]


def with_petal_area(flowers: Flowers) -> Flowers:
    """The four measurements of each flower (cm), and the product of petal length and width."""
    return np.column_stack([flowers, flowers[:, 2] * flowers[:, 3]])
