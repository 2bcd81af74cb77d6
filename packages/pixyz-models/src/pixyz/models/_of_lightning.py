"""What is taken of Lightning, which is an extra."""

try:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import Checkpoint, EarlyStopping
    from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
    from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher as MultiProcessingLauncher
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        'Loops of training are run by Lightning, which is not here: pip install "pixyz-models[lightning]".', name="lightning"
    ) from error

__all__ = ["Checkpoint", "DDPStrategy", "EarlyStopping", "LightningModule", "MultiProcessingLauncher", "SingleDeviceStrategy", "Trainer"]
