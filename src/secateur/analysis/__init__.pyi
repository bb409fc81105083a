from .bits import packed_iou as packed_iou
from .energy import Energy as Energy
from .energy import EnergyComparison as EnergyComparison
from .energy import compare_energy as compare_energy
from .energy import measure_energy as measure_energy
from .intervals import mean_interval as mean_interval
from .overlap import Overlap as Overlap
from .overlap import overlaps as overlaps
