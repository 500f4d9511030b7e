//! Weft test bench.
