"""OpenCL C 1.2: text that the driver of any OpenCL device compiles."""
