"""The engine: turns a plain configuration into objects and runs them. Owns the Trainer, callbacks and loggers."""

from seglab.engine.evaluating import evaluate
from seglab.engine.fitting import fit
from seglab.engine.predicting import predict

__all__ = ["evaluate", "fit", "predict"]
