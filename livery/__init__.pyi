from commands.training.api import train as train
from livery.config.settings import LoraSettings as LoraSettings
from livery.config.settings import TrainSettings as TrainSettings
from livery.errors import UserError as UserError

__version__: str
