"""What a data set looks like before anything is done with it, and which cases look wrong."""
