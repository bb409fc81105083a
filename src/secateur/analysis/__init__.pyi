from .bits import packed_iou as packed_iou
from .intervals import mean_interval as mean_interval
from .overlap import Overlap as Overlap
from .overlap import overlaps as overlaps
from .populations import empirical_distribution as empirical_distribution
from .populations import nearest_third as nearest_third
from .populations import rank_test as rank_test
