"""From an event log to batches, in folders that import only earlier ones.

`dataset`: the prepared dataset and its schema. `split`: held-out events, and the facts known at each moment.
`batches`: from a dataset or a request to tensors. `log`: from a log of any form to a dataset. `public`: public datasets
by name. `synthetic`: simulated logs with a known Bayes optimum.
"""
