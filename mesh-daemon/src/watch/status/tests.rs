//! What is written when, tried: tables, a clock turned by hand, and an API server of our own.
