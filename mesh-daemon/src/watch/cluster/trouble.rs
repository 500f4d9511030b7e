//! What went wrong with a watch, as one sentence with what to do, and as a metric label.

use std::{error::Error as StdError, io, rc::Rc, time::Duration};

use kube::core::Status;

use super::{super::objects::Kind, lines::Broken};
use crate::telemetry::causes;

/// Longest part of a server's own words that is passed on, in characters.
const SAID_CHARS_MAX: usize = 200;

/// One failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// A metric label from a closed set, in snake case.
    pub(super) reason: &'static str,
    /// One sentence for people: who, what, what to do.
    pub(super) sentence: String,
    /// How long the server asks to be left alone.
    pub(super) retry_after: Option<Duration>,
}

/// Who was asked for what.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// The server's URL.
    pub(super) url: Rc<str>,
    /// `list` or `watch`.
    pub(super) verb: &'static str,
    /// Of what.
    pub(super) kind: Kind,
}

impl Trouble {
    fn new(reason: &'static str, sentence: String) -> Self {
        Self {
            reason,
            sentence,
            retry_after: None,
        }
    }

    /// Whether the server answered and the answer was no good, so that another question may be answered better. Who may not ask, asks too often,
    /// or does not get through, is not helped by another question.
    pub(super) fn is_of_the_answer(&self) -> bool {
        let another_helps_not = [
            "unauthorized",
            "forbidden",
            "not_found",
            "too_many_requests",
            "unreachable",
            "credentials",
            "tls",
            "disconnected",
        ];
        !another_helps_not.contains(&self.reason)
    }

    /// Whether it passes by itself, as when a server is away: a server that is well and says no says so until somebody does what the sentence says.
    pub(super) fn may_pass(&self) -> bool {
        !["unauthorized", "forbidden", "not_found"].contains(&self.reason)
    }
}

impl Asked {
    /// No answer at all, or a connection that broke.
    pub(super) fn error(&self, error: &kube::Error) -> Trouble {
        let url = &self.url;
        let cause = plain(&causes(error));
        if let kube::Error::Api(status) = error {
            return self.refusal(status);
        }
        if let kube::Error::Auth(_) = error {
            let sentence = format!(
                "the credentials for the API server {url} cannot be had: {cause}; see the user of the kubeconfig, or the pod's ServiceAccount token"
            );
            return Trouble::new("credentials", sentence);
        }
        // the TLS library's own type is not among ours; its words are stable
        if cause.contains("certificate") || cause.contains("UnknownIssuer") {
            let sentence = format!(
                "the certificate of the API server {url} is not trusted: {cause}; put its CA into certificate-authority of the kubeconfig, which \
                 is read at the daemon's start"
            );
            return Trouble::new("tls", sentence);
        }
        if find(error, |kind| kind == io::ErrorKind::TimedOut) || cause.contains("deadline has elapsed") {
            return Trouble {
                reason: "unreachable",
                ..self.late("did not answer in time")
            };
        }
        let sentence = format!(
            "the API server {url} cannot be reached: {cause}; see that it runs, and that this node can connect to that address"
        );
        Trouble::new("unreachable", sentence)
    }

    /// The server's answer is a refusal.
    pub(super) fn refusal(&self, status: &Status) -> Trouble {
        let Self { url, verb, kind } = self;
        let plural = kind.plural();
        let said: String = status.message.trim().chars().take(SAID_CHARS_MAX).collect();
        let (reason, sentence) = match status.code {
            401 => (
                "unauthorized",
                format!(
                    "the API server {url} does not accept who we are (401); renew the token or the client certificate in the kubeconfig, or the \
                     pod's ServiceAccount token"
                ),
            ),
            403 => (
                "forbidden",
                format!(
                    "the API server {url} does not let us {verb} {plural} (403); bind the ClusterRole weft-mesh-daemon of \
                     deploy/daemonset/rbac.yaml to the daemon's account: it allows get, list and watch of them"
                ),
            ),
            404 => (
                "not_found",
                format!(
                    "the API server {url} has no {plural} (404); see that the URL is that of a Kubernetes API server, of version 1.21 or later"
                ),
            ),
            429 => (
                "too_many_requests",
                format!("the API server {url} is asked for too much (429: {said}); trying again, more slowly"),
            ),
            code @ 500.. => (
                "server_error",
                format!("the API server {url} failed to {verb} {plural} ({code}: {said}); see its log"),
            ),
            code => (
                "refused",
                format!("the API server {url} refuses to {verb} {plural} ({code}: {said}); see its log"),
            ),
        };
        let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        Trouble {
            reason,
            sentence,
            retry_after: (seconds > 0).then(|| Duration::from_secs(u64::from(seconds))),
        }
    }

    /// It takes too long.
    pub(super) fn late(&self, what: &str) -> Trouble {
        let Self { url, verb, kind } = self;
        let plural = kind.plural();
        let sentence = format!(
            "the API server {url} {what}, asked to {verb} {plural}; see its load, and the network between it and this node"
        );
        Trouble::new("timeout", sentence)
    }

    /// The answer ended too early.
    pub(super) fn cut(&self, cause: &str) -> Trouble {
        let Self { url, verb, kind } = self;
        let plural = kind.plural();
        let sentence = format!(
            "the API server {url}, or something before it, cut its answer short ({cause}), asked to {verb} {plural}; see its log, and those of \
             load balancers on the way"
        );
        Trouble::new("cut_short", sentence)
    }

    /// The connection ended in the middle of an answer. It carries nothing of the kind: of all watches that break together it is told once.
    pub(super) fn disconnected(&self, cause: &str) -> Trouble {
        let url = &self.url;
        let cause = plain(cause);
        let sentence = format!(
            "the connection to the API server {url} broke ({cause}); if it goes on, see the server's log, and those of load balancers on the way"
        );
        Trouble::new("disconnected", sentence)
    }

    /// The answer's lines ended otherwise than they should.
    pub(super) fn broken(&self, broken: &Broken) -> Trouble {
        match broken {
            Broken::Cut => self.cut("in the middle of an object"),
            Broken::Connection(cause) => self.disconnected(cause),
            Broken::TooLong => self.garbled("an object larger than any that Kubernetes takes"),
        }
    }

    /// JSON that does not parse: cut off, or none.
    pub(super) fn undecodable(&self, error: &serde_json::Error) -> Trouble {
        if error.is_eof() {
            self.cut("in the middle of an object")
        } else {
            self.garbled(&error.to_string())
        }
    }

    /// The answer is not what Kubernetes says.
    pub(super) fn garbled(&self, cause: &str) -> Trouble {
        let Self { url, verb, kind } = self;
        let plural = kind.plural();
        let cause: String = cause.chars().take(SAID_CHARS_MAX).collect();
        let sentence = format!(
            "the API server {url} answered what is not Kubernetes' JSON ({cause}), asked to {verb} {plural}; see that the URL is that of an API \
             server, and what stands before it"
        );
        Trouble::new("garbled", sentence)
    }
}

/// A cause without the names of the libraries that passed it on, and without links to their documentation.
fn plain(cause: &str) -> String {
    let cause = cause.split(": https://").next().unwrap_or(cause);
    cause
        .replace("ServiceError: ", "")
        .replace("client error (Connect): ", "")
}

/// Whether an I/O error of this kind is among the causes.
fn find(error: &(dyn StdError + 'static), is: impl Fn(io::ErrorKind) -> bool) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<io::Error>().is_some_and(|error| is(error.kind())) {
            return true;
        }
        next = error.source();
    }
    false
}
