"""The Helios network: transformer, memory and autoencoder. Knows nothing of sampling or training."""
