//! The last good objects in the state directory, versioned and checksummed: what a daemon serves that starts while the API server is away.
