"""The seam: everything minilm asks of the kernel package goes through here.

No other module of minilm imports `minilm_kernels`. Which implementation runs is chosen by `use`, printed by
`available`, and never asked about by a layer.

>>> import minilm
>>> minilm.kernels.use("numpy")
>>> print(minilm.kernels.available())
"""

from minilm_kernels import *  # noqa: F403  (the package's __all__ is the contract plus use/available/active/register)
from minilm_kernels import __all__ as __all__
