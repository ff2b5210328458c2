"""Messages and arrays between the processes and hosts that run one model."""
