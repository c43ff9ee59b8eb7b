"""Finding mail: what a query means, and an index of words that is sealed like everything else."""
