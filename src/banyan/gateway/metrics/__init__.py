"""What is counted and timed for Prometheus.

Owns the names of all metrics: those of vLLM where the meaning is the same, so that dashboards made
for it keep working, and our own. Filled by the routes; read by `GET /metrics`.
"""
