"""What a chip is and can do: find it, allocate, load a program, launch. Never the compiler."""
