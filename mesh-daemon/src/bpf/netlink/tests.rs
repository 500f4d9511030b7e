//! Datagrams as the kernel sends them, and broken ones.

use std::io;

use super::request::{Answer, read_datagram};

/// A message with a header, padded as the kernel pads.
fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(u32::try_from(16 + payload.len()).unwrap().to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn check(datagram: &[u8], expected: &Result<(bool, Answer), io::ErrorKind>) {
    let mut answer = Answer::default();
    let got = read_datagram(datagram, 7, &mut answer)
        .map(|complete| (complete, answer))
        .map_err(|error| error.kind());
    assert_eq!(&got, expected, "{datagram:?}");
}

#[test]
fn an_answer_ends_with_the_acknowledgement_of_the_last_message() {
    let object = message(0xa00, 2, 6, &[1, 2, 3]);
    let messages = vec![(0xa00, vec![1, 2, 3])];
    check(
        &object,
        &Ok((
            false,
            Answer {
                messages: messages.clone(),
                interrupted: false,
            },
        )),
    );
    let other = [object.clone(), message(2, 0, 6, &[0; 20])].concat();
    check(
        &other,
        &Ok((
            false,
            Answer {
                messages: messages.clone(),
                interrupted: false,
            },
        )),
    );
    let acknowledged = [object.clone(), message(2, 0, 7, &[0; 20])].concat();
    check(
        &acknowledged,
        &Ok((
            true,
            Answer {
                messages: messages.clone(),
                interrupted: false,
            },
        )),
    );
    let dumped = [object, message(3, 0x10, 7, &[0; 4])].concat();
    check(
        &dumped,
        &Ok((
            true,
            Answer {
                messages,
                interrupted: true,
            },
        )),
    );
}

#[test]
fn a_refusal_of_any_message_is_an_error() {
    let refusal = |sequence| message(2, 0, sequence, &(-libc::EPERM).to_ne_bytes());
    check(&refusal(1), &Err(io::ErrorKind::PermissionDenied));
    check(&refusal(7), &Err(io::ErrorKind::PermissionDenied));
    check(
        &message(3, 0, 7, &(-libc::EPERM).to_ne_bytes()),
        &Err(io::ErrorKind::PermissionDenied),
    );
}

#[test]
fn a_length_that_lies_is_refused() {
    let mut short = message(0xa00, 0, 1, &[]);
    short[0] = 15;
    check(&short, &Err(io::ErrorKind::InvalidData));
    let mut long = message(0xa00, 0, 1, &[1]);
    long[0] = 200;
    check(&long, &Err(io::ErrorKind::InvalidData));
}
