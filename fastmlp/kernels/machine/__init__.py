"""What compiles: addresses, records, the compile policy, the cache, threads of the system."""
