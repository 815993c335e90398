"""The quantiser: weights and activations as bytes, and products of them. It knows tensors alone, no layer and no
kernel, so that whoever writes weights down elsewhere uses the same numbers."""
