"""From a model, a workload and the devices at hand to a plan. Pure: numbers in, plan out."""
