"""Train an adapter from Python, on the embedded base: python examples/train.py"""

from datagen import make_data
from livery import LoraSettings, TrainSettings, train
from livery.training.events import Evaluated, Event


def show(event: Event) -> None:
    if isinstance(event, Evaluated):
        print(f"step {event.step}: eval_loss {event.eval_loss:.3f}")


make_data("date-keys", "data/example", count=256)
settings = TrainSettings(
    data="data/example", output_dir="adapters/example", lora=LoraSettings(rank=8, alpha=16),
    max_steps=20, batch_size=8, steps_per_eval=10, eval_max_samples=32, samples=0,
)  # fmt: skip
result = train(settings, overwrite=True, callbacks=[show])
print(f"{result.steps} steps; the adapter is in {settings.output_dir}")
