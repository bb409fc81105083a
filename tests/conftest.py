import torch
from hypothesis import settings

# speed belongs to benchmarks/; no database, so that a run leaves nothing behind
settings.register_profile("secateur", deadline=None, max_examples=50, database=None)
settings.load_profile("secateur")
torch.set_num_threads(1)
