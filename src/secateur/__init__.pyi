from . import (
    analysis as analysis,
)
from . import (
    budgets as budgets,
)
from . import (
    calibration as calibration,
)
from . import (
    core as core,
)
from . import (
    data as data,
)
from . import (
    onnx as onnx,
)
from . import (
    recovery as recovery,
)
from . import (
    report as report,
)
from . import (
    runtime as runtime,
)
from . import (
    schedules as schedules,
)
from . import (
    scores as scores,
)
from . import (
    structures as structures,
)
from . import (
    tasks as tasks,
)
from ._version import __version__ as __version__
from .core import (
    BudgetError as BudgetError,
)
from .core import (
    CheckpointError as CheckpointError,
)
from .core import (
    Delta as Delta,
)
from .core import (
    Keep as Keep,
)
from .core import (
    MaskKeeper as MaskKeeper,
)
from .core import (
    MissingExtra as MissingExtra,
)
from .core import (
    NumericsError as NumericsError,
)
from .core import (
    Paper as Paper,
)
from .core import (
    Plan as Plan,
)
from .core import (
    Recipe as Recipe,
)
from .core import (
    RecipeError as RecipeError,
)
from .core import (
    SecateurError as SecateurError,
)
from .core import (
    SubjectError as SubjectError,
)
from .core import (
    Task as Task,
)
from .core import (
    Training as Training,
)
from .core import (
    When as When,
)
from .core import (
    adopt_torch_masks_ as adopt_torch_masks_,
)
from .core import (
    method as method,
)
from .engine.checkpoint import load as load
from .engine.checkpoint import load_keep as load_keep
from .engine.compare import compare as compare
from .engine.family import compact_family as compact_family
from .engine.larger import Pruned as Pruned
from .engine.larger import prune_folder as prune_folder
from .engine.prune import prune as prune
from .engine.pruner import Pruner as Pruner
from .engine.result import Result as Result
from .engine.spaces import PruningSpace as PruningSpace
from .engine.spaces import pruning_space as pruning_space
from .onnx.exporting import export as export
from .recovery import recalibrate_bn_ as recalibrate_bn_
