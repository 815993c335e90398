"""What is true of kernels on any machine."""
