"""A volume through the network in tiles."""
