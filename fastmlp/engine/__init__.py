"""The memory of one network, and who may use it when."""
