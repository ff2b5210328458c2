"""Speech to text: files of sound, windows of 30 seconds, and the queue that batches them."""
