//! Packets that the kernel half dropped, from its ring buffer into the log, at a bounded rate.

use aya::maps::{MapData, RingBuf};
use mesh_common::{addr::Addr, counter::Counter, event::Event};
use tokio::{io::unix::AsyncFd, time::Instant};

/// Most log lines per second. Beyond it drops are still counted by `weft_capture_decisions_total`.
const LINES_PER_SECOND: u32 = 10;
/// Events that are read before other tasks of the control thread get their turn.
const ITEMS_PER_TURN: u32 = 64;

/// Logs drops until the ring buffer fails.
pub async fn log_drops(events: RingBuf<MapData>) {
    // SAFETY: the ring buffer owns its descriptor and keeps it open and unchanged until it is dropped, after the AsyncFd
    let mut events = match unsafe { AsyncFd::register(events) } {
        Ok(events) => events,
        Err(error) => {
            tracing::error!(%error, "cannot watch the kernel half's ring buffer; drops are counted but not logged");
            return;
        }
    };
    let (mut since, mut lines) = (Instant::now(), 0);
    while let Ok(mut ready) = events.readable_mut().await {
        let mut items = 0u32;
        while let Some(item) = ready.get_inner_mut().next() {
            if since.elapsed().as_secs() >= 1 {
                (since, lines) = (Instant::now(), 0);
            }
            lines += 1;
            if lines <= LINES_PER_SECOND {
                log(&item);
            }
            drop(item);
            items += 1;
            if items.is_multiple_of(ITEMS_PER_TURN) {
                // this thread has more to do than to listen to a pod that floods
                tokio::task::yield_now().await;
            }
        }
        ready.clear_ready();
    }
}

fn log(item: &[u8]) {
    let Some(event) = parse(item) else {
        tracing::warn!(bytes = item.len(), "an event of unknown size from the kernel half");
        return;
    };
    tracing::warn!(
        reason = Counter::from_index(event.reason).map_or("unknown", Counter::name),
        ifindex = event.ifindex,
        source = %format_args!("{}:{}", event.source, event.source_port),
        destination = %format_args!("{}:{}", event.destination, event.destination_port),
        "packet dropped"
    );
}

/// An event's words in the order of its fields; plain integers, so any bytes of the right number are one.
fn parse(item: &[u8]) -> Option<Event> {
    if item.len() != size_of::<Event>() {
        return None;
    }
    let word = |i: usize| Some(u32::from_ne_bytes(*item.get(i * 4..)?.first_chunk()?));
    let addr = |i: usize| Some(Addr([word(i)?, word(i + 1)?, word(i + 2)?, word(i + 3)?]));
    Some(Event {
        reason: word(0)?,
        ifindex: word(1)?,
        source: addr(2)?,
        destination: addr(6)?,
        source_port: word(10)?,
        destination_port: word(11)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_field_by_field() {
        let bytes: Vec<u8> = (1u32..=12).flat_map(u32::to_ne_bytes).collect();
        let expected = Event {
            reason: 1,
            ifindex: 2,
            source: Addr([3, 4, 5, 6]),
            destination: Addr([7, 8, 9, 10]),
            source_port: 11,
            destination_port: 12,
        };
        assert_eq!(parse(&bytes), Some(expected));
        assert_eq!(parse(&bytes[..44]), None);
        assert_eq!(parse(&[]), None);
    }
}
