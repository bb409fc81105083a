"""The formalism: nouns and verbs that every room speaks. Nothing here knows a paper, a model family or a data set.

Names are loaded on first use (they are listed in `__init__.pyi`), so that listing methods needs no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
