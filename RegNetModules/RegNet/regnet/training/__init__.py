"""Training of registration models. Lightning and TensorBoard (the extra ``regnet[train]``) load on first use only."""
