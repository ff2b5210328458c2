"""What kernels cost, before and after they run, and the search for better block sizes."""
