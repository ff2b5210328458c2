"""Banyan: one place to train, fine-tune and serve large models on any mix of chips."""
