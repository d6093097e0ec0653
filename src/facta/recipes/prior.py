"""The prior of a recommender in a run: part of every validation, and given to the model when its training is over.

The model trains without its prior, so checkpoints hold no rules. A run that goes on counts them again.
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

MOST = 20_000  # validation requests that choose a weight: a single number, and each of its values asks them all


def prior_of(config: ModelConfig) -> PriorConfig | None:
    """The prior that a config asks for: in its field `prior`, where it has one."""
    found = getattr(config, "prior", None)
    return found if isinstance(found, PriorConfig) else None


def without_prior(config: ModelConfig) -> ModelConfig:
    """What is trained."""
    return config if prior_of(config) is None else config.change(prior=None)


def validated(measured: Validate | None, model: Model, prior: Prior) -> Validate | None:
    """The same metrics, of the model with its prior: the epoch that is kept is the best one of both together."""
    if measured is None:
        return None

    def measure(epoch: int) -> Mapping[str, float]:
        with _beside(model, prior):
            return measured(epoch)

    return measure


def settle(model: Model, prior: Prior, fitting: Fitting, log: Log) -> None:
    """Give a trained model its prior and write the prior's settings into the model's config.

    An open weight becomes the one of `Prior.WEIGHTS` with the highest NDCG@10 on (at most MOST requests of) validation,
    of equals the lowest.
    """
    model.prior = prior
    if prior.open and len(fitting.split.validation):
        reached: dict[float, float] = {}
        asked = fitting.sample(MOST)
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
        model.prior = None  # or checkpoints would hold the rules
