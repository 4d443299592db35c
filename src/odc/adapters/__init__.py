"""The ports on real technology. Siblings of the CLI; neither imports the other."""
