//! Bodies that are sent again: frame by frame with a scripted client, and through hyper's connections.

use std::{collections::VecDeque, task::Waker};

use http::HeaderValue;

use super::*;

mod wired;

/// What the client's body does next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Data(usize),
    Trailers,
    /// Nothing, for now.
    Wait,
    Break,
}
use Step::{Break, Data, Trailers, Wait};

/// A client's body; its data is of one letter for each frame.
struct Script {
    steps: VecDeque<Step>,
    /// Whether it says how long it is.
    exact: bool,
    letter: u8,
}

fn script(steps: &[Step], exact: bool) -> Script {
    Script {
        steps: steps.iter().copied().collect(),
        exact,
        letter: b'a',
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(match self.steps.pop_front() {
            None => None,
            Some(Data(bytes)) => {
                let data = vec![self.letter; bytes];
                self.letter += 1;
                Some(Ok(Frame::data(data.into())))
            }
            Some(Trailers) => {
                let mut trailers = HeaderMap::new();
                trailers.insert("x-sum", HeaderValue::from_static("7"));
                Some(Ok(Frame::trailers(trailers)))
            }
            Some(Wait) => return Poll::Pending,
            Some(Break) => Some(Err(std::io::Error::other("gone"))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if !self.exact {
            return SizeHint::default();
        }
        let steps = self.steps.iter();
        SizeHint::with_exact(
            steps
                .map(|step| if let Data(bytes) = step { *bytes as u64 } else { 0 })
                .sum(),
        )
    }
}

/// Reads until the body ends, breaks off or has nothing, at most `frames`.
fn read(body: &mut Replay<Script>, frames: usize) -> String {
    let mut cx = Context::from_waker(Waker::noop());
    let mut out = String::new();
    for _ in 0..frames {
        match Pin::new(&mut *body).poll_frame(&mut cx) {
            Poll::Pending => return out + "…",
            Poll::Ready(None) => return out + ".",
            Poll::Ready(Some(Err(BodyError::Client(_)))) => return out + "!",
            Poll::Ready(Some(Err(BodyError::Superseded))) => return out + "?",
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => out += std::str::from_utf8(&data).unwrap(),
                Err(frame) => out += if frame.is_trailers() { "+trailers" } else { "" },
            },
        }
    }
    out
}

const ALL: usize = 100;

#[test]
fn the_next_attempt_repeats_and_goes_on() {
    for (steps, frames, first, second) in [
        (&[][..], ALL, ".", "."),
        (&[Data(2), Data(1)], 0, "", "aab."),
        (&[Data(2), Data(1)], 1, "aa", "aab."),
        (&[Data(2), Data(1)], 2, "aab", "aab."),
        (&[Data(2), Data(1)], ALL, "aab.", "aab."),
        (&[Data(2), Wait, Data(1)], ALL, "aa…", "aab."),
        (&[Data(2), Wait, Data(1), Wait], ALL, "aa…", "aab…"),
        (&[Data(1), Trailers], 1, "a", "a+trailers."),
        (&[Data(1), Trailers], 2, "a+trailers", "a+trailers."),
        (&[Data(1), Trailers], ALL, "a+trailers.", "a+trailers."),
        (&[Trailers], ALL, "+trailers.", "+trailers."),
        (&[Data(1), Wait, Break], ALL, "a…", "a!"),
    ] {
        let (mut body, handle) = Replay::new(script(steps, false));
        assert_eq!(read(&mut body, frames), first, "{steps:?}");
        let mut again = handle.again().unwrap();
        assert_eq!(read(&mut again, ALL), second, "{steps:?} after {frames}");
        assert_eq!(read(&mut body, ALL), "?", "{steps:?}: two attempts read at a time");
    }
}

#[test]
fn every_further_attempt_has_the_whole() {
    let (mut body, handle) = Replay::new(script(&[Data(1), Data(1), Data(1), Data(1)], false));
    assert_eq!(read(&mut body, 1), "a");
    for expected in ["ab", "abc", "abcd", "abcd."] {
        let mut again = handle.again().unwrap();
        // the repetition is one frame
        assert_eq!(read(&mut again, 2), expected);
    }
    // an attempt that ended amid its repetition has taken nothing away
    drop(handle.again());
    assert_eq!(read(&mut handle.again().unwrap(), ALL), "abcd.");
}

#[test]
fn a_body_that_broke_off_is_not_sent_again() {
    let (mut body, handle) = Replay::new(script(&[Data(1), Break], false));
    assert!(!handle.is_broken());
    assert_eq!(read(&mut body, ALL), "a!");
    assert_eq!(read(&mut body, ALL), "!", "it never looks complete");
    assert!(handle.is_broken());
    assert!(handle.again().is_none());
}

#[test]
fn no_more_than_the_bound_is_kept() {
    for (steps, frames, kept) in [
        (&[Data(REPLAY_BYTES)][..], ALL, Some(REPLAY_BYTES)),
        (&[Data(REPLAY_BYTES), Wait, Data(1)], ALL, Some(REPLAY_BYTES)),
        (&[Data(REPLAY_BYTES - 1), Data(1)], ALL, Some(REPLAY_BYTES)),
        (&[Data(REPLAY_BYTES), Data(1)], 1, Some(REPLAY_BYTES)),
        (&[Data(REPLAY_BYTES), Data(1)], 2, None),
        (&[Data(REPLAY_BYTES + 1)], ALL, None),
        (&[Data(REPLAY_BYTES - 6), Trailers], ALL, Some(REPLAY_BYTES - 6)),
        (&[Data(REPLAY_BYTES - 5), Trailers], ALL, None),
    ] {
        let (mut body, handle) = Replay::new(script(steps, false));
        read(&mut body, frames);
        assert_eq!(handle.tape.borrow().kept.len(), kept.unwrap_or(0), "{steps:?}");
        assert_eq!(handle.again().is_some(), kept.is_some(), "{steps:?}");
    }
}

#[test]
fn a_body_that_says_that_it_is_too_long_is_not_kept_at_all() {
    let (mut body, handle) = Replay::new(script(&[Data(1), Data(REPLAY_BYTES)], true));
    assert_eq!(read(&mut body, 1), "a");
    assert!(handle.tape.borrow().kept.is_empty());
    assert!(handle.again().is_none());
}

#[test]
fn after_giving_up_nothing_is_kept_and_the_attempt_goes_on() {
    let steps = [Data(2), Wait, Data(1), Trailers];
    let (mut body, handle) = Replay::new(script(&steps, false));
    assert_eq!(read(&mut body, ALL), "aa…");
    let mut second = handle.again().unwrap();
    handle.give_up();
    assert!(handle.tape.borrow().kept.is_empty());
    assert!(handle.again().is_none());
    assert_eq!(read(&mut second, ALL), "aab+trailers.");
    assert!(handle.tape.borrow().kept.is_empty() && handle.tape.borrow().kept_trailers.is_none());

    let (mut body, handle) = Replay::new(script(&steps, false));
    let tape = Rc::clone(&handle.tape);
    drop(handle);
    assert_eq!(read(&mut body, 1), "aa");
    assert!(tape.borrow().kept.is_empty());
}

#[test]
fn lengths_are_those_of_what_will_be_sent() {
    let (mut body, handle) = Replay::new(script(&[Data(2), Data(3)], true));
    assert_eq!(body.size_hint().exact(), Some(5));
    read(&mut body, 1);
    assert_eq!(body.size_hint().exact(), Some(3));
    let mut second = handle.again().unwrap();
    assert_eq!(second.size_hint().exact(), Some(5));
    assert_eq!(read(&mut second, 1), "aa");
    assert_eq!(second.size_hint().exact(), Some(3));
    assert_eq!(read(&mut second, 1), "bbb");
    assert!(second.is_end_stream());
    let third = handle.again().unwrap();
    assert_eq!(third.size_hint().exact(), Some(5));
    assert!(!third.is_end_stream() && !second.is_end_stream());

    // what had no length has one when it has been read to its end
    let (mut body, handle) = Replay::new(script(&[Data(2), Trailers], false));
    assert_eq!(body.size_hint().exact(), None);
    read(&mut body, ALL);
    assert!(body.is_end_stream());
    let again = handle.again().unwrap();
    assert_eq!(again.size_hint().exact(), Some(2));
    assert!(!again.is_end_stream());

    let (body, handle) = Replay::new(script(&[], true));
    assert!(body.is_end_stream() && handle.again().unwrap().is_end_stream());
}

#[test]
fn whatever_fails_when_the_last_attempt_has_sent_what_the_client_sent() {
    let mut rng = fastrand::Rng::with_seed(3);
    for _ in 0..5_000 {
        let mut steps: Vec<Step> = (0..rng.usize(0..8))
            .map(|_| [Data(1), Data(3), Wait][rng.usize(0..3)])
            .collect();
        steps.extend(rng.bool().then_some(Trailers));
        let plain: Vec<Step> = steps.iter().copied().filter(|step| *step != Wait).collect();
        let expected = read(&mut Replay::new(script(&plain, false)).0, ALL);
        let (mut body, handle) = Replay::new(script(&steps, rng.bool()));
        for _ in 0..rng.usize(0..4) {
            read(&mut body, rng.usize(0..6));
            body = handle.again().unwrap();
        }
        let (mut sent, mut polls) = (String::new(), 0);
        while !sent.ends_with('.') {
            sent = sent.trim_end_matches('…').to_owned() + &read(&mut body, ALL);
            polls += 1;
            assert!(polls < ALL, "{steps:?} {sent}");
        }
        assert_eq!(sent, expected, "{steps:?}");
    }
}
