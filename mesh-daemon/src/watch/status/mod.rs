//! Writes back what became of objects: the pod condition `weft.mesh/Captured` and Events, at a bounded rate, only when changed.
