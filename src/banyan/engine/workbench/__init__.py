"""What looks into a model or changes it ahead of serving: report, tune, quantise, compare."""
