"""What is done with a data set before training: it is checked, and converted into shards of one resolution."""
