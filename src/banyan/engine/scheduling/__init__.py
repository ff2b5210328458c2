"""What one step computes and who comes next: costs, pace, fair shares. Pure."""
