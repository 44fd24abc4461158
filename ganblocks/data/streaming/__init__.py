"""Data sets in shards, of which only the shards in use are indexed and, from elsewhere, copied to this machine."""
