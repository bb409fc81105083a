from . import registry as registry
from .adapter import Adapt as Adapt
from .adapter import Adapter as Adapter
from .adapter import Variant as Variant
from .adapter import is_transposed as is_transposed
from .adapter import merge_kept_ as merge_kept_
from .added import AddBias as AddBias
from .blocks import (
    AngularDistance as AngularDistance,
)
from .blocks import (
    BlockPass as BlockPass,
)
from .clock import Clock as Clock
from .clock import Point as Point
from .count import count as count
from .count import kept_count as kept_count
from .depth import Drop as Drop
from .depth import Skip as Skip
from .depth import Skipped as Skipped
from .errors import (
    BudgetError as BudgetError,
)
from .errors import (
    CheckpointError as CheckpointError,
)
from .errors import (
    MissingExtra as MissingExtra,
)
from .errors import (
    NumericsError as NumericsError,
)
from .errors import (
    RecipeError as RecipeError,
)
from .errors import (
    SecateurError as SecateurError,
)
from .errors import (
    SubjectError as SubjectError,
)
from .errors import (
    nearest as nearest,
)
from .errors import (
    require as require,
)
from .fisher import (
    DiagonalFisher as DiagonalFisher,
)
from .fisher import (
    SampleBackward as SampleBackward,
)
from .forwards import replaced as replaced
from .input_stats import (
    InputGram as InputGram,
)
from .input_stats import (
    InputMoments as InputMoments,
)
from .input_stats import (
    InputNorm as InputNorm,
)
from .input_stats import (
    InputTokens as InputTokens,
)
from .input_stats import (
    RunningMoments as RunningMoments,
)
from .judging import (
    Budget as Budget,
)
from .judging import (
    Counts as Counts,
)
from .judging import (
    Score as Score,
)
from .judging import (
    Target as Target,
)
from .judging import (
    check_counts as check_counts,
)
from .judging import (
    fit_count as fit_count,
)
from .keep import Keep as Keep
from .masks import MASK_SUFFIX as MASK_SUFFIX
from .masks import (
    MaskKeeper as MaskKeeper,
)
from .masks import (
    SoftMask as SoftMask,
)
from .masks import (
    adopt_torch_masks_ as adopt_torch_masks_,
)
from .masks import (
    apply_masks_ as apply_masks_,
)
from .masks import (
    attach_mask_ as attach_mask_,
)
from .masks import (
    attach_soft_mask_ as attach_soft_mask_,
)
from .masks import (
    masks_of as masks_of,
)
from .masks import (
    owner_of as owner_of,
)
from .masks import (
    remove_masks_ as remove_masks_,
)
from .masks import (
    remove_soft_mask_ as remove_soft_mask_,
)
from .move import Kind as Kind
from .move import Move as Move
from .move import Rewind as Rewind
from .parts import part_name as part_name
from .parts import parts_of as parts_of
from .plan import Mask as Mask
from .plan import Mend as Mend
from .plan import Plan as Plan
from .plan import Resize as Resize
from .protocols import (
    Calibration as Calibration,
)
from .protocols import (
    Choice as Choice,
)
from .protocols import (
    Healing as Healing,
)
from .protocols import (
    Passes as Passes,
)
from .protocols import (
    Procedure as Procedure,
)
from .protocols import (
    Recovery as Recovery,
)
from .protocols import (
    Refine as Refine,
)
from .protocols import (
    Schedule as Schedule,
)
from .protocols import (
    Solve as Solve,
)
from .protocols import (
    Structure as Structure,
)
from .protocols import (
    Subject as Subject,
)
from .recipe import Recipe as Recipe
from .registry import Entry as Entry
from .registry import Method as Method
from .registry import Paper as Paper
from .registry import When as When
from .registry import method as method
from .route import Route as Route
from .select import RandomPick as RandomPick
from .select import Select as Select
from .select import TopK as TopK
from .select import boundary as boundary
from .sliced import Branch as Branch
from .sliced import Rewire as Rewire
from .sliced import SlicedBlock as SlicedBlock
from .sliced import SlicedNorm as SlicedNorm
from .sliced import Slim as Slim
from .sliced import Untie as Untie
from .space import Group as Group
from .space import Member as Member
from .space import Site as Site
from .space import Space as Space
from .spelling import read_call as read_call
from .spelling import spell_call as spell_call
from .spelling import split_outside as split_outside
from .stats import (
    Backward as Backward,
)
from .stats import (
    Balanced as Balanced,
)
from .stats import (
    BalancedGradient as BalancedGradient,
)
from .stats import (
    Ends as Ends,
)
from .stats import (
    Event as Event,
)
from .stats import (
    Flow as Flow,
)
from .stats import (
    Forward as Forward,
)
from .stats import (
    Gradient as Gradient,
)
from .stats import (
    Greedy as Greedy,
)
from .stats import (
    HessianGradient as HessianGradient,
)
from .stats import (
    Notes as Notes,
)
from .stats import (
    Ordered as Ordered,
)
from .stats import (
    Passed as Passed,
)
from .stats import (
    Relevance as Relevance,
)
from .stats import (
    Rules as Rules,
)
from .stats import (
    Silenced as Silenced,
)
from .stats import (
    State as State,
)
from .stats import (
    Statistic as Statistic,
)
from .stats import (
    Stats as Stats,
)
from .stats import (
    Trial as Trial,
)
from .stats import (
    UnitRelevance as UnitRelevance,
)
from .stats import (
    Visit as Visit,
)
from .stats import (
    summed as summed,
)
from .streams import BlockInfluence as BlockInfluence
from .streams import SpanAngle as SpanAngle
from .subjects import Delta as Delta
from .subjects import Described as Described
from .subjects import check_loaded as check_loaded
from .task import (
    Accuracy as Accuracy,
)
from .task import (
    Metric as Metric,
)
from .task import (
    Task as Task,
)
from .task import (
    Training as Training,
)
from .task import (
    batch_length as batch_length,
)
from .task import (
    check_loss as check_loss,
)
from .task import (
    device_of as device_of,
)
from .task import (
    first_call as first_call,
)
from .task import (
    first_samples as first_samples,
)
from .task import (
    joined_batches as joined_batches,
)
from .task import (
    picked_samples as picked_samples,
)
from .task import (
    samples_for as samples_for,
)
from .task import (
    to_device as to_device,
)
from .tokens import View as View
from .tokens import token_view as token_view
from .validate import validated as validated
