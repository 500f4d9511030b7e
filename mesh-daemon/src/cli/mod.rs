//! One file per subcommand: asks, prints, exits.

pub mod detach;
