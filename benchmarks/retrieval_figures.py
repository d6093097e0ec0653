"""Figures of seams: answers and starts over large catalogues, histories on their way to the model, memory, parts."""

from __future__ import annotations

from benchmarks.figure import Figure, module

RETRIEVAL: dict[str, Figure] = {
    "recommend_1m_vs_product": Figure(
        "<= 1.6", "x", module("retrieval"), "one request over 1,000,000 items x 64, over a bare product and top-k"
    ),
    "load_300k_vs_read": Figure(
        "<= 3", "x", module("retrieval"), "loading an artifact of 300,000 items, over reading its files with checksums"
    ),
    "history_to_batch_ms": Figure(
        "<= 2", "ms", module("histories"), "a stored history of 2,000 events and 4 fields to the batch of a request"
    ),
    "linear_append_vs_hstu": Figure(
        ">= 10", "x", module("append"), "one more of 8,192 remembered events: HSTU's time over FuXi-Linear's"
    ),
    "files_touched_new_model": Figure(
        "<= 1", "files", module("seams"), "files of facta that a new encoder or model touches beside its own"
    ),
    "cached_states_max_error": Figure(
        "<= 1e-11", "", module("seams"), "predictions with a memory against without, float64, all layouts and encoders"
    ),
}
