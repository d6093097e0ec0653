"""Figures of counted models, and of the trained systems that were trained again as the rules were."""

from __future__ import annotations

from benchmarks.figure import Figure, module


def _pair(name: str, bar: str, command: str, what: str) -> dict[str, Figure]:
    """NDCG@10, which has the bar, and HR@10 of the same runs."""
    return {
        f"{name}_ndcg10": Figure(bar, "NDCG@10", module(command), what),
        f"{name}_hr10": Figure("", "HR@10", module(command), "the same runs"),
    }


RULES: dict[str, Figure] = {
    **_pair("beauty_rules", ">= 0.054", "beauty rules", "Amazon Beauty: pairwise rules, untrained"),
    **_pair("beauty_rules_refit", ">= 0.062", "beauty rules", "Amazon Beauty, refit: pairwise rules, untrained"),
    **_pair("beauty_sasrec_ss_refit", "", "beauty sasrec-ss-refit", "Amazon Beauty, refit: SASRec, sampled softmax"),
    **_pair("ml1m_rules", "", "ml1m rules", "ML-1M, loo-val: pairwise rules, untrained"),
    **_pair("ml1m_rules_refit", "", "ml1m rules", "ML-1M, loo-val, refit: pairwise rules, untrained"),
    **_pair("ml1m_ease", "", "ml1m ease", "ML-1M, loo-val: EASE"),
    **_pair("ml1m_ease_refit", "", "ml1m ease", "ML-1M, loo-val, refit: EASE"),
    **_pair("ml1m_bprmf", "", "ml1m bpr-mf", "ML-1M, loo-val: BPR-MF"),
    **_pair("ml1m_bprmf_refit", "", "ml1m bpr-mf", "ML-1M, loo-val, refit: BPR-MF"),
    **_pair(
        "ml1m_hstu_refit", "", "ml1m hstu-refit", "ML-1M, loo-val, refit: HSTU, 17.7 % of timestamps reconstructed"
    ),
}
