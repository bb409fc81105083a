"""What pruning did to the model: where two keeps agree beyond chance, what energy it takes, how sure a mean is.

Names are loaded on first use (they are listed in `__init__.pyi`), so that reading verdicts needs no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
