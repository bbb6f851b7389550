"""What the types and names of modules say of each tensor, without a look at operators."""
