"""Models for other people: exported programs, model cards and the Hugging Face Hub."""
