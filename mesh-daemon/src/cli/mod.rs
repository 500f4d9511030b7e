//! One file per subcommand: asks, prints, exits.

pub mod detach;
mod routes;
mod endpoints;
mod policy;
mod policies;
mod ask;
mod table;

use crate::config::{OutputFormat, Question, Subject};

pub use ask::AskError;

/// Asks the running daemon, and says what is to be printed.
///
/// # Errors
/// One sentence: no daemon is there, or it has no answer.
pub async fn look(question: &Question) -> Result<String, AskError> {
    let body = ask::ask(question).await?;
    match question.output {
        OutputFormat::Json => Ok(body),
        OutputFormat::Table => table(&question.subject, &body).map_err(AskError::Unreadable),
    }
}

fn table(subject: &Subject, json: &str) -> serde_json::Result<String> {
    Ok(match subject {
        Subject::Routes | Subject::RoutesIn(_) | Subject::RoutesOf(_) => {
            routes::table(subject, &serde_json::from_str(json)?)
        }
        Subject::Endpoints(_) => endpoints::table(&serde_json::from_str(json)?),
        Subject::Policy(_) => policy::table(&serde_json::from_str(json)?),
        Subject::Policies | Subject::PoliciesIn(_) => policies::table(subject, &serde_json::from_str(json)?),
    })
}
