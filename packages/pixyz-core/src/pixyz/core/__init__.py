"""What a distribution and a loss are, their algebra, their formulas and their evaluation."""

from . import _algebra, _installation
from . import _formula as formula
from ._constant_var import ConstantVar
from ._copies import MAX_ENUMERATE
from ._dims import BATCH, Dims, Term, align, broadcast, fold, spread, stack_terms, unfold, union
from ._distribution import Distribution, need_distribution
from ._elementwise import log_mean_exp, logsumexp, maximum, minimum
from ._errors import (
    BoundVariableError,
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
from ._estimators import Draw, draw, reduce
from ._expectation import Expectation
from ._explanation import Explanation, Recorder
from ._from_function import FromFunction
from ._given_networks import GivenNetworks
from ._graph import Graph, Node, Plate
from ._joint import Joint
from ._leaf import Leaf
from ._leaves import leaves_of, register_leaves
from ._log_prob import LogProb
from ._loss import Loss, need_scalar
from ._network import Outputs, common_sizes
from ._operators import Constant, Parameter, as_loss
from ._parser import parse_density
from ._posterior import Posterior
from ._scope import Binding, Conditional, Factor, GaussianConditional, MaskableConditional, Scope, ScoredConditional, Watcher
from ._seeded import seeded
from ._single import Single
from ._variables import suggest

_installation.check_namespace()
_algebra.bind()

__all__ = [
    "BATCH",
    "MAX_ENUMERATE",
    "Binding",
    "BoundVariableError",
    "Conditional",
    "Constant",
    "ConstantVar",
    "Dims",
    "Distribution",
    "Draw",
    "Expectation",
    "Explanation",
    "Factor",
    "FormulaError",
    "FromFunction",
    "GaussianConditional",
    "GivenNetworks",
    "Graph",
    "IntractableError",
    "Joint",
    "KindError",
    "Leaf",
    "LogProb",
    "Loss",
    "MaskableConditional",
    "MissingVariableError",
    "Node",
    "NonFiniteLossError",
    "Outputs",
    "Parameter",
    "ParameterError",
    "PixyzError",
    "Plate",
    "Posterior",
    "Recorder",
    "Scope",
    "ScoredConditional",
    "ShapeError",
    "Single",
    "SupportError",
    "Term",
    "Watcher",
    "align",
    "as_loss",
    "broadcast",
    "common_sizes",
    "draw",
    "fold",
    "formula",
    "leaves_of",
    "log_mean_exp",
    "logsumexp",
    "maximum",
    "minimum",
    "need_distribution",
    "need_scalar",
    "parse_density",
    "reduce",
    "register_leaves",
    "seeded",
    "spread",
    "stack_terms",
    "suggest",
    "unfold",
    "union",
]
