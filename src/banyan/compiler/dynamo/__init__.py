"""`torch.compile(model, backend="banyan")`: inference and training through this compiler."""
