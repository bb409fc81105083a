from .intervals import mean_interval as mean_interval
from .overlap import Overlap as Overlap
from .overlap import overlaps as overlaps
