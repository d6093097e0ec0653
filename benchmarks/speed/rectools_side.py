"""RecTools' side of benchmarks.speed.epoch, for an interpreter that has RecTools: EVENTS.csv EPOCHS THREADS.

It waits for a line before each epoch, so that two sides can take turns, and answers with a line of JSON behind it.
"""

import json
import logging
import sys
import time
import warnings
from typing import ClassVar

import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer
from rectools.dataset import Dataset
from rectools.models import HSTUModel

warnings.filterwarnings("ignore")
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


class Clock(Callback):
    """Seconds of each epoch, and the positions with a target in the first; RecTools fits with a copy of the trainer."""

    epochs: ClassVar[int] = 0
    positions: ClassVar[list[int]] = []

    def on_train_epoch_start(self, *_: object) -> None:
        if not sys.stdin.readline():
            sys.exit("The side that asks for epochs has ended.")
        self._began = time.perf_counter()

    def on_train_batch_start(self, _: Trainer, __: object, batch: dict[str, torch.Tensor], ___: int) -> None:
        if not Clock.epochs:
            self.positions.append(int((batch["y"] != 0).sum()))

    def on_train_epoch_end(self, *_: object) -> None:
        seconds = time.perf_counter() - self._began
        Clock.epochs += 1
        print(json.dumps({"seconds": seconds, "positions": sum(self.positions)}), flush=True)


def main(log: str, epochs: int, threads: int) -> None:
    torch.set_num_threads(threads)
    events = pd.read_csv(log).rename(columns={"timestamp": "datetime"})
    events["datetime"] = pd.to_datetime(events["datetime"], unit="ms")
    events["weight"] = 1.0

    def trainer() -> Trainer:
        return Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            callbacks=[Clock()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    HSTUModel(
        n_blocks=2,
        n_heads=1,
        n_factors=50,
        dropout_rate=0.2,
        session_max_len=200,
        loss="sampled_softmax",
        n_negatives=128,
        lr=1e-3,
        batch_size=128,
        epochs=epochs,
        relative_time_attention=True,
        relative_pos_attention=True,
        similarity_module_kwargs={"distance": "cosine"},
        lightning_module_kwargs={"logits_t": 0.05},
        get_trainer_func=trainer,
    ).fit(Dataset.construct(events))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
