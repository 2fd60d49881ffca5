"""Parts of the verb `shrink`: what a point is, how one is made, measured and kept, and in which order points are tried."""
