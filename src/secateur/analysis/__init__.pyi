from .bits import packed_iou as packed_iou
from .intervals import mean_interval as mean_interval
from .overlap import Overlap as Overlap
from .overlap import overlaps as overlaps
