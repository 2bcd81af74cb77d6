"""What a distribution and a loss are, their algebra, their formulas and their evaluation."""

from . import _algebra, _installation
from . import _formula as formula
from ._autocast import call_in_float32, call_network, in_full_precision
from ._baselines import MovingAverage
from ._bindings import Binding, Factor
from ._checks import NO_CHECKS, ON_HOST, Checks, DeferredChecks, not_reproduced, reading_is_free
from ._choices import AnyEstimator, Choice, estimator_for
from ._cholesky import cholesky
from ._closures import warn_of_networks
from ._conditionals import Conditional, GaussianConditional, MaskableConditional, RelaxableConditional, ScoredConditional
from ._constant_var import ConstantVar
from ._constants import WithConstants
from ._dims import (
    BATCH,
    Dims,
    Term,
    add,
    align,
    broadcast,
    differ,
    fold,
    log_size,
    need_dense,
    spread,
    stack_terms,
    sum_over,
    unfold,
    union,
)
from ._distribution import Distribution, need_distribution
from ._drawing import Draw, Plan, Scored, draw, stack_scored, warn_without_baseline
from ._elementwise import log_mean_exp, log_sigmoid, logsumexp, maximum, minimum
from ._errors import (
    BoundVariableError,
    CheckpointError,
    FormulaError,
    IntractableError,
    KindError,
    MissingVariableError,
    NonFiniteLossError,
    ParameterError,
    PixyzError,
    ShapeError,
    SupportError,
)
from ._estimators import reduce
from ._expectation import Expectation
from ._explanation import Explanation, Recorder
from ._from_function import FromFunction
from ._game import Game, of_leaves, sides
from ._given_networks import GivenNetworks
from ._graph import Graph, Node, Plate
from ._guards import CACHE_OF_ITS_OWN
from ._indices import draw_indices
from ._joint import Joint
from ._leaf import Leaf
from ._leaves import leaves_of, register_leaves
from ._log_prob import LogProb
from ._loss import Loss, need_scalar
from ._measures import KnownSupport, known_supports, need_one_measure
from ._methods import Enumerate, Estimator, Pathwise, Sample, Score
from ._network import Outputs, common_sizes
from ._noise import normal_noise, uniform_noise
from ._operators import Constant, Mean, Parameter, as_loss
from ._parser import parse_density
from ._posterior import Posterior
from ._quantities import Quantities, Quantity, add_quantities, scale_quantities
from ._relaxations import Rebar, Relaxed, StraightThrough
from ._scope import Scope, Watcher
from ._seeded import RandomState, random_state, seeded, set_random_state
from ._single import Single
from ._together import Together
from ._variables import is_number, is_whole, need_finite, suggest

_installation.check_namespace()
_algebra.bind()

__all__ = [
    "BATCH",
    "CACHE_OF_ITS_OWN",
    "NO_CHECKS",
    "ON_HOST",
    "AnyEstimator",
    "Binding",
    "BoundVariableError",
    "CheckpointError",
    "Checks",
    "Choice",
    "Conditional",
    "Constant",
    "ConstantVar",
    "DeferredChecks",
    "Dims",
    "Distribution",
    "Draw",
    "Enumerate",
    "Estimator",
    "Expectation",
    "Explanation",
    "Factor",
    "FormulaError",
    "FromFunction",
    "Game",
    "GaussianConditional",
    "GivenNetworks",
    "Graph",
    "IntractableError",
    "Joint",
    "KindError",
    "KnownSupport",
    "Leaf",
    "LogProb",
    "Loss",
    "MaskableConditional",
    "Mean",
    "MissingVariableError",
    "MovingAverage",
    "Node",
    "NonFiniteLossError",
    "Outputs",
    "Parameter",
    "ParameterError",
    "Pathwise",
    "PixyzError",
    "Plan",
    "Plate",
    "Posterior",
    "Quantities",
    "Quantity",
    "RandomState",
    "Rebar",
    "Recorder",
    "RelaxableConditional",
    "Relaxed",
    "Sample",
    "Scope",
    "Score",
    "Scored",
    "ScoredConditional",
    "ShapeError",
    "Single",
    "StraightThrough",
    "SupportError",
    "Term",
    "Together",
    "Watcher",
    "WithConstants",
    "add",
    "add_quantities",
    "align",
    "as_loss",
    "broadcast",
    "call_in_float32",
    "call_network",
    "cholesky",
    "common_sizes",
    "differ",
    "draw",
    "draw_indices",
    "estimator_for",
    "fold",
    "formula",
    "in_full_precision",
    "is_number",
    "is_whole",
    "known_supports",
    "leaves_of",
    "log_mean_exp",
    "log_sigmoid",
    "log_size",
    "logsumexp",
    "maximum",
    "minimum",
    "need_dense",
    "need_distribution",
    "need_finite",
    "need_one_measure",
    "need_scalar",
    "normal_noise",
    "not_reproduced",
    "of_leaves",
    "parse_density",
    "random_state",
    "reading_is_free",
    "reduce",
    "register_leaves",
    "scale_quantities",
    "seeded",
    "set_random_state",
    "sides",
    "spread",
    "stack_scored",
    "stack_terms",
    "suggest",
    "sum_over",
    "unfold",
    "uniform_noise",
    "union",
    "warn_of_networks",
    "warn_without_baseline",
]
