"""What every test shares."""

import torch
from hypothesis import settings

settings.register_profile("ours", deadline=None)
settings.load_profile("ours")
torch.set_num_threads(1)
