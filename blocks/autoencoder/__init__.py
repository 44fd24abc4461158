"""The family `autoencoder`: from images to latents, and from latents to images."""
