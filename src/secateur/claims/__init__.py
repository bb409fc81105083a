"""One reproduction per method: the paper's claim, measured small, on real data, against its baseline.

`run.run_claim` measures and stores, `store.verdicts` and `store.listing` read without importing torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
