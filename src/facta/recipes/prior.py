"""The prior of a recommender in a run: used in every validation, and added to the model after training.

The model trains without its prior, so checkpoints hold no rules. A resumed run counts them again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from facta.eval.evaluation import validate
from facta.eval.fitting import Fitting
from facta.models.model import Model, ModelConfig
from facta.models.prior import Prior, PriorConfig
from facta.training.log import Log
from facta.training.model import Validate

MOST_REQUESTS = 20_000  # most validation requests for choosing the weight, since each value needs all of them


def prior_of(config: ModelConfig) -> PriorConfig | None:
    """The config's field `prior`, if it has one."""
    found = getattr(config, "prior", None)
    return found if isinstance(found, PriorConfig) else None


def without_prior(config: ModelConfig) -> ModelConfig:
    """The config of the model in training."""
    return config if prior_of(config) is None else config.change(prior=None)


def validated(measured: Validate | None, model: Model, prior: Prior) -> Validate | None:
    """Validation of the model with its prior, so that the best epoch is that of both together."""
    if measured is None:
        return None

    def measure(epoch: int) -> Mapping[str, float]:
        with _beside(model, prior):
            return measured(epoch)

    return measure


def settle(model: Model, prior: Prior, fitting: Fitting, log: Log) -> None:
    """Add the prior to a trained model, and its settings to the model's config.

    An open weight becomes the one of `Prior.WEIGHTS` with the highest NDCG@10 on (at most
    MOST_REQUESTS requests of) validation; ties go to the lowest.
    """
    model.prior = prior
    if prior.open and len(fitting.split.validation):
        reached: dict[float, float] = {}
        asked = fitting.sample(MOST_REQUESTS)
        for prior.weight in Prior.WEIGHTS:
            reached[prior.weight] = validate(model, asked, ks=(10,)).means["NDCG@10"]
        prior.weight = max(reached, key=lambda tried: reached[tried])
        log.say(
            f"Pairwise rules beside the model: weight {prior.weight:g} has the highest NDCG@10 on validation, "
            f"{reached[prior.weight]:.4f}; without them {reached[0.0]:.4f}."
        )
    model.config = model.config.change(prior=prior.config)


@contextmanager
def _beside(model: Model, prior: Prior) -> Iterator[None]:
    model.prior = prior
    try:
        yield
    finally:
        model.prior = None  # otherwise checkpoints would hold the rules
