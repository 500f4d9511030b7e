//! Verdict → counter, mark, event, TC action. Every packet leaves through [`finish`].

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT},
    programs::TcContext,
};
use mesh_common::{counter::Counter, decide::Verdict, event::Event};

use crate::{
    maps::{WEFT_COUNTERS, WEFT_EVENTS, WEFT_SETTINGS},
    packet::{self, Layer},
};

/// Lets whatever else stands on the interface have its say; `TC_ACT_OK` would skip it. For a clsact filter it means the same
/// (`TC_ACT_UNSPEC`).
const NEXT: i32 = -1;

/// The action that a verdict means to the kernel.
struct Action(i32);

impl From<Verdict> for Action {
    #[inline(always)]
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass(_) | Verdict::Steer(_) => Self(NEXT),
            Verdict::Drop(_) => Self(TC_ACT_SHOT),
        }
    }
}

/// Counts the verdict, acts on it, and says what the kernel shall do.
#[inline(always)]
pub fn finish(ctx: &TcContext, layer: Layer, verdict: Verdict) -> i32 {
    match verdict {
        Verdict::Pass(counter) => count(counter),
        Verdict::Steer(counter) => {
            count(counter);
            if let Some(settings) = WEFT_SETTINGS.get(0) {
                set_mark(ctx.skb.skb, settings.mark_mask, settings.mark_steer);
            }
        }
        Verdict::Drop(counter) => {
            count(counter);
            report(ctx, layer, counter);
        }
    }
    Action::from(verdict).0
}

#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(value) = WEFT_COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the entry is this CPU's own
        unsafe { *value += 1 }
    }
}

/// A subprogram on purpose: inlined into two branches, LLVM hoists `&skb.mark` into a register, and the verifier answers "dereference of
/// modified ctx ptr".
#[inline(never)]
fn set_mark(skb: *mut __sk_buff, mask: u32, mark: u32) {
    // SAFETY: the program's own context
    unsafe { (*skb).mark = ((*skb).mark & !mask) | mark }
}

/// Says in the ring buffer what was dropped.
#[inline(always)]
fn report(ctx: &TcContext, layer: Layer, counter: Counter) {
    let Some(packet) = packet::parse(ctx, layer) else {
        return;
    };
    let Some(mut entry) = WEFT_EVENTS.reserve::<Event>(0) else {
        return count(Counter::EventLost);
    };
    entry.write(Event {
        reason: counter as u32,
        // SAFETY: the program's own context
        ifindex: unsafe { (*ctx.skb.skb).ifindex },
        source: packet.source,
        destination: packet.destination,
        source_port: u32::from(packet.source_port),
        destination_port: u32::from(packet.destination_port),
    });
    entry.submit(0);
    #[cfg(feature = "debug-log")]
    aya_log_ebpf::debug!(ctx, "dropped: reason {}", counter as u32);
}
