"""Planning: from a data set, by stated rules, a config that fits it and this machine."""
