"""What a training needs: memory, arithmetic, communication and time, computed without allocating its networks."""
