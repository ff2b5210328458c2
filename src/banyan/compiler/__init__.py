"""The compiler: capture -> graph -> passes -> kernels of tiles -> text for a chip -> program."""
