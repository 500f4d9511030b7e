//! Measurements on the real API server with a thousand Services: how soon a daemon is ready and what memory it takes, and how soon one
//! changed endpoint of ten thousand is served.

pub(crate) mod figures;
mod load;
mod objects;
mod ready;
mod churn;
mod world;

pub use churn::churn;
pub use ready::scale;
