"""The networks, one file each, with what they are made of: plain modules, tensors in and out."""
