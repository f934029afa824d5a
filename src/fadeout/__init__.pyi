from .analysis.advice import advise as advise
from .analysis.examine import examine as examine
from .analysis.verdicts import verdicts as verdicts
from .cli.notebook import expand as expand
from .cli.notebook import train as train
from .config import Activation as Activation
from .config import Init as Init
from .config import Model as Model
from .config import Optimizer as Optimizer
from .config import Run as Run
from .config import Task as Task
from .config import Training as Training
from .networks.activations import activation as activation
from .networks.initializers import initializer as initializer
from .networks.model import MLP as MLP
from .networks.model import Neuron as Neuron
from .networks.optimizers import optimizer as optimizer
from .networks.probes import probe as probe
from .networks.tasks import arrays as arrays
from .networks.tasks import task as task
from .plots import compare as compare
from .registry import Between as Between
from .registry import FadeoutError as FadeoutError
from .sweeps.results import to_frame as to_frame
from .sweeps.store import load as load
from .training.resolve import identity as identity

__version__: str
