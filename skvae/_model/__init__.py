"""The variational autoencoder as a torch module, its builder, and what it says of rows with missing values."""
